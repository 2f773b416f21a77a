// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <initializer_list>
#include <string>
#include <string_view>

#include "serving/arguments.hpp"

/// The library's options of a simulation on the command line.
namespace metro::cli {

/// "--name".
std::string as_option(std::string_view name);

/// Arguments whose messages name options of the command line.
inline serving::Arguments command_line_arguments() { return serving::Arguments(as_option); }

/// Adds the options but for those named, each with one value. `arguments` must outlive parsing.
void add_simulation_options(CLI::App& command, serving::Arguments& arguments,
                            std::initializer_list<std::string_view> but = {});

}  // namespace metro::cli
