// SPDX-License-Identifier: Apache-2.0
#include "simulation_options.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "options.hpp"
#include "serving/option.hpp"

namespace metro::cli {

std::string as_option(std::string_view name) { return fmt::format("--{}", name); }

void add_simulation_options(CLI::App& command, serving::Arguments& arguments,
                            std::initializer_list<std::string_view> but) {
  for (const serving::Option& option : serving::options()) {
    if (std::ranges::find(but, option.name) != but.end()) continue;
    add_text(
        command, as_option(option.name), std::string(option.value), option.help_text(as_option),
        [&arguments, name = option.name](const std::string& text) { arguments.set(name, text); })
        ->required(option.required);
  }
}

}  // namespace metro::cli
