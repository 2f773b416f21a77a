// SPDX-License-Identifier: Apache-2.0
#include "options.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>
#include <system_error>
#include <utility>

#include "metro/error.hpp"

namespace metro::cli {
namespace {

[[noreturn]] void fail(const std::string& message) { throw Error(ErrorCode::kUsage, message); }

/// Parses all of `text`; from_chars takes no sign '+', no blanks and no octal.
template <typename Number>
bool parse_all(std::string_view text, Number& value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc{} && end == text.data() + text.size();
}

std::int64_t parse_int(const std::string& option, std::string_view text, IntRange range) {
  std::int64_t value = 0;
  if (!parse_all(text, value) || value < range.min || value > range.max) {
    fail(fmt::format("{} is '{}', must be a whole number {}..{}", option, text, range.min,
                     range.max));
  }
  return value;
}

double parse_real(const std::string& option, std::string_view text, RealRange range) {
  double value = 0;
  if (!parse_all(text, value) || !std::isfinite(value) || value < range.min || value > range.max) {
    fail(fmt::format("{} is '{}', must be a number {}..{}", option, text, range.min, range.max));
  }
  return value;
}

std::string parse_name(const std::string& option, std::string_view text,
                       std::span<const std::string_view> names) {
  if (std::ranges::find(names, text) == names.end()) {
    fail(fmt::format("{} is '{}', must be one of {}{}", option, text, join(names),
                     did_you_mean(text, names)));
  }
  return std::string(text);
}

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

/// An option whose text `take` checks and keeps.
template <typename Take>
CLI::Option* add_text(CLI::App& command, const std::string& name, const std::string& help,
                      const std::string& type, Take take) {
  const auto callback = [take = std::move(take)](const CLI::results_t& texts) {
    for (const std::string& text : texts) take(text);
    return true;
  };
  return command.add_option(name, callback, help)->type_name(type);
}

/// Levenshtein distance; names are a few letters long.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    std::size_t diagonal = row[0];
    row[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const std::size_t substituted = diagonal + (a[i - 1] == b[j - 1] ? 0 : 1);
      diagonal = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, substituted});
    }
  }
  return row[b.size()];
}

}  // namespace

CLI::Option* add_int64(CLI::App& command, const std::string& name, std::int64_t& value,
                       IntRange range, const std::string& help) {
  return add_text(command, name, help, "N", [&value, name, range](const std::string& text) {
    value = parse_int(name, text, range);
  });
}

CLI::Option* add_int(CLI::App& command, const std::string& name, int& value, IntRange range,
                     const std::string& help) {
  return add_text(command, name, help, "N", [&value, name, range](const std::string& text) {
    value = static_cast<int>(parse_int(name, text, range));
  });
}

CLI::Option* add_uint64(CLI::App& command, const std::string& name, std::uint64_t& value,
                        const std::string& help) {
  return add_text(command, name, help, "N", [&value, name](const std::string& text) {
    if (!parse_all(std::string_view(text), value)) {
      fail(fmt::format("{} is '{}', must be a whole number 0..{}", name, text,
                       std::numeric_limits<std::uint64_t>::max()));
    }
  });
}

CLI::Option* add_real(CLI::App& command, const std::string& name, double& value, RealRange range,
                      const std::string& help) {
  return add_text(command, name, help, "X", [&value, name, range](const std::string& text) {
    value = parse_real(name, text, range);
  });
}

CLI::Option* add_path(CLI::App& command, const std::string& name, std::filesystem::path& value,
                      const std::string& help) {
  const std::string option = name.substr(name.rfind(',') + 1);
  return add_text(command, name, help, "FILE", [&value, option](const std::string& text) {
    if (text.empty()) fail(fmt::format("{} is '', must name a file", option));
    value = text;
  });
}

CLI::Option* add_paths(CLI::App& command, const std::string& name,
                       std::vector<std::filesystem::path>& values, const std::string& help) {
  return add_text(command, name, help, "FILE",
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
  return add_text(command, name, help, "NAME", [&value, name, known](const std::string& text) {
    value = parse_name(name, text, known);
  });
}

CLI::Option* add_int_list(CLI::App& command, const std::string& name, std::vector<int>& values,
                          IntRange range, const std::string& help) {
  return add_text(command, name, help, "N,...", [&values, name, range](const std::string& text) {
    values.clear();
    for_each_entry(text, [&](std::string_view entry) {
      values.push_back(static_cast<int>(parse_int(name, entry, range)));
    });
  });
}

CLI::Option* add_real_list(CLI::App& command, const std::string& name, std::vector<double>& values,
                           RealRange range, const std::string& help) {
  return add_text(command, name, help, "X,...", [&values, name, range](const std::string& text) {
    values.clear();
    for_each_entry(
        text, [&](std::string_view entry) { values.push_back(parse_real(name, entry, range)); });
  });
}

CLI::Option* add_name_list(CLI::App& command, const std::string& name,
                           std::vector<std::string>& values,
                           std::span<const std::string_view> names, const std::string& help) {
  const std::vector<std::string_view> known(names.begin(), names.end());
  return add_text(command, name, help, "NAME,...", [&values, name, known](const std::string& text) {
    values.clear();
    for_each_entry(
        text, [&](std::string_view entry) { values.push_back(parse_name(name, entry, known)); });
  });
}

CLI::Option* add_size_list(CLI::App& command, const std::string& name,
                           std::vector<std::pair<int, int>>& values, IntRange range,
                           const std::string& help) {
  return add_text(command, name, help, "NxN,...", [&values, name, range](const std::string& text) {
    values.clear();
    for_each_entry(text, [&](std::string_view entry) {
      const std::size_t times = entry.find('x');
      if (times == std::string_view::npos) {
        fail(fmt::format("{} is '{}', must be sizes as in 7168x2048", name, entry));
      }
      const auto part = [&](std::string_view number) {
        return static_cast<int>(parse_int(name, number, range));
      };
      values.emplace_back(part(entry.substr(0, times)), part(entry.substr(times + 1)));
    });
  });
}

bool is_file_name(const std::string& text, std::string_view suffix) {
  for (const std::string_view start : {"/", "./", "../"}) {
    if (text.starts_with(start)) return true;
  }
  std::error_code error;
  return text.ends_with(suffix) ||
         std::filesystem::exists(std::filesystem::symlink_status(text, error));
}

std::string did_you_mean(std::string_view text, std::span<const std::string_view> names) {
  const auto closest = std::ranges::min_element(
      names, {}, [&](std::string_view candidate) { return edit_distance(text, candidate); });
  if (closest == names.end()) return "";
  const std::size_t distance = edit_distance(text, *closest);
  if (distance == 0 || distance > 1 + closest->size() / 3) return "";
  return fmt::format(" (did you mean '{}'?)", *closest);
}

std::string join(std::span<const std::string_view> names) {
  return fmt::format("{}", fmt::join(names, ", "));
}

}  // namespace metro::cli
