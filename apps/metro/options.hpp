// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "io/text_value.hpp"

/// Typed options over CLI11. Each checks its value while the command line is parsed and throws
/// metro::Error{kUsage} that names the option, the value and what would be right. Numbers are
/// decimal and whole: no octal, no trailing text, no empty list entries.
namespace metro::cli {

using io::did_you_mean;
using io::IntRange;
using io::is_file_name;
using io::join;
using io::RealRange;

/// An option whose text `take` checks and keeps; `type` stands for it in the help.
CLI::Option* add_text(CLI::App& command, const std::string& name, const std::string& type,
                      const std::string& help, const std::function<void(const std::string&)>& take);
CLI::Option* add_int(CLI::App& command, const std::string& name, int& value, IntRange range,
                     const std::string& help);
CLI::Option* add_int64(CLI::App& command, const std::string& name, std::int64_t& value,
                       IntRange range, const std::string& help);
CLI::Option* add_uint64(CLI::App& command, const std::string& name, std::uint64_t& value,
                        const std::string& help);
CLI::Option* add_real(CLI::App& command, const std::string& name, double& value, RealRange range,
                      const std::string& help);
CLI::Option* add_path(CLI::App& command, const std::string& name, std::filesystem::path& value,
                      const std::string& help);
/// An option that may be given more than once.
CLI::Option* add_paths(CLI::App& command, const std::string& name,
                       std::vector<std::filesystem::path>& values, const std::string& help);
/// One of `names`; a near miss is answered with the name that was meant.
CLI::Option* add_name(CLI::App& command, const std::string& name, std::string& value,
                      std::span<const std::string_view> names, const std::string& help);

/// Comma-separated lists, in the order given.
CLI::Option* add_int_list(CLI::App& command, const std::string& name, std::vector<int>& values,
                          IntRange range, const std::string& help);
CLI::Option* add_real_list(CLI::App& command, const std::string& name, std::vector<double>& values,
                           RealRange range, const std::string& help);
CLI::Option* add_name_list(CLI::App& command, const std::string& name,
                           std::vector<std::string>& values,
                           std::span<const std::string_view> names, const std::string& help);
/// A size as in 7168x2048.
CLI::Option* add_size(CLI::App& command, const std::string& name, std::pair<int, int>& value,
                      IntRange range, const std::string& help);
/// Comma-separated sizes as in 7168x2048.
CLI::Option* add_size_list(CLI::App& command, const std::string& name,
                           std::vector<std::pair<int, int>>& values, IntRange range,
                           const std::string& help);

}  // namespace metro::cli
