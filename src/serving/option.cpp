// SPDX-License-Identifier: Apache-2.0
#include "serving/option.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "io/text_value.hpp"
#include "metro/error.hpp"

namespace metro::serving {

std::string as_field(std::string_view name) {
  std::string field(name);
  std::ranges::replace(field, '-', '_');
  return field;
}

const Option& find_option(std::string_view name) {
  const auto found = std::ranges::find(options(), name, &Option::name);
  if (found == options().end()) {
    throw Error(ErrorCode::kUsage, fmt::format("'{}' is no option of a simulation", name));
  }
  return *found;
}

std::string Option::help_text(Spelling spelling) const {
  std::string text;
  for (std::string_view rest = help;;) {
    const std::size_t open = rest.find('{');
    text += rest.substr(0, open);
    if (open == std::string_view::npos) return text;
    const std::size_t close = rest.find('}', open);
    const std::string_view named = rest.substr(open + 1, close - open - 1);
    text += named.empty() ? default_text() : spelling(named);
    rest.remove_prefix(close + 1);
  }
}

std::string Option::default_text() const {
  return help.find("{}") == std::string::npos ? "" : value_text(in_force(SimulationConfig{}));
}

OptionValue Option::parse(std::string_view spelled, const std::string& text) const {
  if (type == OptionType::kInteger) {
    return io::parse_int(spelled, text,
                         {static_cast<std::int64_t>(min), static_cast<std::int64_t>(max)});
  }
  if (type == OptionType::kReal) return io::parse_real(spelled, text, {min, max});
  if (type == OptionType::kName) {
    if (std::ranges::find(old_names, text) != old_names.end()) return std::string(text);
    return io::parse_name(spelled, text, names);
  }
  if (type == OptionType::kFile && text.empty()) {
    throw Error(ErrorCode::kUsage, fmt::format("{} is '', must name a file", spelled));
  }
  if (check != nullptr) check(spelled, text);
  return text;
}

std::string value_text(const OptionValue& value) {
  if (const auto* whole = std::get_if<std::int64_t>(&value)) return fmt::format("{}", *whole);
  if (const auto* real = std::get_if<double>(&value)) return fmt::format("{:g}", *real);
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  return "";
}

std::string in_force_text(std::string_view name, const SimulationConfig& config) {
  return value_text(find_option(name).in_force(config));
}

}  // namespace metro::serving
