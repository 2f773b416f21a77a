// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <array>
#include <map>
#include <string>
#include <string_view>

/// Completions and manual pages, made of the options that the program itself parses.
namespace metro::cli {

inline constexpr std::array<std::string_view, 3> kShells = {"bash", "zsh", "fish"};

/// The completion script of one of kShells.
std::string completion_script(const CLI::App& program, std::string_view shell);

/// Every file below share/ of an installation: the completions, and a manual page for the program
/// and each of its commands, by path.
std::map<std::string, std::string> shell_files(const CLI::App& program);

}  // namespace metro::cli
