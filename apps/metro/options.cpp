// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <fmt/format.h>

#include <utility>

#include "metro/error.hpp"

namespace metro::cli {
namespace {

[[noreturn]] void fail(const std::string& message) { throw Error(ErrorCode::kUsage, message); }

/// Calls `take` with each entry of a comma-separated list.
template <typename Take>
void for_each_entry(const std::string& text, Take take) {
  std::string_view rest = text;
  for (;;) {
    const std::size_t comma = rest.find(',');
    take(rest.substr(0, comma));
    if (comma == std::string_view::npos) return;
    rest.remove_prefix(comma + 1);
  }
}

std::pair<int, int> parse_size(const std::string& name, std::string_view text, IntRange range) {
  const std::size_t times = text.find('x');
  if (times == std::string_view::npos) {
    fail(fmt::format("{} is '{}', must be sizes as in 7168x2048", name, text));
  }
  const auto part = [&](std::string_view number) {
    return static_cast<int>(io::parse_int(name, number, range));
  };
  return {part(text.substr(0, times)), part(text.substr(times + 1))};
}

}  // namespace

CLI::Option* add_text(CLI::App& command, const std::string& name, const std::string& type,
                      const std::string& help,
                      const std::function<void(const std::string&)>& take) {
  const auto callback = [take](const CLI::results_t& texts) {
    for (const std::string& text : texts) take(text);
    return true;
  };
  return command.add_option(name, callback, help)->type_name(type);
}

CLI::Option* add_int64(CLI::App& command, const std::string& name, std::int64_t& value,
                       IntRange range, const std::string& help) {
  return add_text(command, name, "N", help, [&value, name, range](const std::string& text) {
    value = io::parse_int(name, text, range);
  });
}

CLI::Option* add_int(CLI::App& command, const std::string& name, int& value, IntRange range,
                     const std::string& help) {
  return add_text(command, name, "N", help, [&value, name, range](const std::string& text) {
    value = static_cast<int>(io::parse_int(name, text, range));
  });
}

CLI::Option* add_uint64(CLI::App& command, const std::string& name, std::uint64_t& value,
                        const std::string& help) {
  return add_text(command, name, "N", help, [&value, name](const std::string& text) {
    value = io::parse_uint64(name, text);
  });
}

CLI::Option* add_real(CLI::App& command, const std::string& name, double& value, RealRange range,
                      const std::string& help) {
  return add_text(command, name, "X", help, [&value, name, range](const std::string& text) {
    value = io::parse_real(name, text, range);
  });
}

CLI::Option* add_path(CLI::App& command, const std::string& name, std::filesystem::path& value,
                      const std::string& help) {
  const std::string option = name.substr(name.rfind(',') + 1);
  return add_text(command, name, "FILE", help, [&value, option](const std::string& text) {
    if (text.empty()) fail(fmt::format("{} is '', must name a file", option));
    value = text;
  });
}

CLI::Option* add_paths(CLI::App& command, const std::string& name,
                       std::vector<std::filesystem::path>& values, const std::string& help) {
  return add_text(command, name, "FILE", help,
                  [&values, name](const std::string& text) {
                    if (text.empty()) fail(fmt::format("{} is '', must name a file", name));
                    values.emplace_back(text);
                  })
      ->expected(1, CLI::detail::expected_max_vector_size)
      ->allow_extra_args(false);
}

CLI::Option* add_name(CLI::App& command, const std::string& name, std::string& value,
                      std::span<const std::string_view> names, const std::string& help) {
  const std::vector<std::string_view> known(names.begin(), names.end());
  return add_text(command, name, "NAME", help, [&value, name, known](const std::string& text) {
    value = io::parse_name(name, text, known);
  });
}

CLI::Option* add_int_list(CLI::App& command, const std::string& name, std::vector<int>& values,
                          IntRange range, const std::string& help) {
  return add_text(command, name, "N,...", help, [&values, name, range](const std::string& text) {
    values.clear();
    for_each_entry(text, [&](std::string_view entry) {
      values.push_back(static_cast<int>(io::parse_int(name, entry, range)));
    });
  });
}

CLI::Option* add_real_list(CLI::App& command, const std::string& name, std::vector<double>& values,
                           RealRange range, const std::string& help) {
  return add_text(command, name, "X,...", help, [&values, name, range](const std::string& text) {
    values.clear();
    for_each_entry(text, [&](std::string_view entry) {
      values.push_back(io::parse_real(name, entry, range));
    });
  });
}

CLI::Option* add_name_list(CLI::App& command, const std::string& name,
                           std::vector<std::string>& values,
                           std::span<const std::string_view> names, const std::string& help) {
  const std::vector<std::string_view> known(names.begin(), names.end());
  return add_text(command, name, "NAME,...", help, [&values, name, known](const std::string& text) {
    values.clear();
    for_each_entry(text, [&](std::string_view entry) {
      values.push_back(io::parse_name(name, entry, known));
    });
  });
}

CLI::Option* add_size(CLI::App& command, const std::string& name, std::pair<int, int>& value,
                      IntRange range, const std::string& help) {
  return add_text(command, name, "NxN", help, [&value, name, range](const std::string& text) {
    value = parse_size(name, text, range);
  });
}

CLI::Option* add_size_list(CLI::App& command, const std::string& name,
                           std::vector<std::pair<int, int>>& values, IntRange range,
                           const std::string& help) {
  return add_text(command, name, "NxN,...", help, [&values, name, range](const std::string& text) {
    values.clear();
    for_each_entry(
        text, [&](std::string_view entry) { values.push_back(parse_size(name, entry, range)); });
  });
}

}  // namespace metro::cli
