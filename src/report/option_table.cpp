// SPDX-License-Identifier: Apache-2.0
#include "report/option_table.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace metro::report {
namespace {

using serving::Option;
using serving::OptionType;

constexpr std::size_t kFewNames = 4;

/// Markdown takes '|' for the end of a cell.
std::string cell(std::string text) {
  for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) {
    text.insert(at, 1, '\\');
  }
  return text;
}

std::string values_of(const Option& option) {
  if (option.type == OptionType::kInteger) {
    return fmt::format("{:.0f} to {:.0f}", option.min, option.max);
  }
  if (option.type == OptionType::kReal)
    return fmt::format("{:.10g} to {:.10g}", option.min, option.max);
  if (!option.names.empty() && option.names.size() <= kFewNames) {
    return fmt::format("`{}`", fmt::join(option.names, "`, `"));
  }
  return cell(std::string(option.value));
}

/// The first line of a help text, without its default in parentheses, and that default.
struct Help {
  std::string text;
  std::string otherwise;
};

Help split(const std::string& help) {
  constexpr std::string_view kMark = " (default";
  std::string line = help.substr(0, help.find('\n'));
  if (line.ends_with(':')) line.pop_back();
  const std::size_t begin = line.find(kMark);
  if (begin == std::string::npos) return {line, ""};
  const std::size_t end = line.find(')', begin);
  std::string otherwise = line.substr(begin + kMark.size(), end - begin - kMark.size());
  otherwise.erase(0, otherwise.find_first_not_of(": "));
  return {line.erase(begin, end + 1 - begin), std::move(otherwise)};
}

}  // namespace

std::string option_table(serving::Spelling spelling) {
  std::string text = "| option | values | default | in results | |\n|---|---|---|---|---|\n";
  for (const Option& option : serving::options()) {
    const Help help = split(option.help_text(spelling));
    std::string otherwise = help.otherwise.empty() ? option.default_text() : help.otherwise;
    if (option.required) otherwise = "required";
    text += fmt::format("| `{}` | {} | {} | {} | {} |\n", spelling(option.name), values_of(option),
                        cell(otherwise), option.key.empty() ? "" : fmt::format("`{}`", option.key),
                        cell(help.text));
  }
  return text;
}

}  // namespace metro::report
