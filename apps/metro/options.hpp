// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

/// Typed options over CLI11. Each checks its value while the command line is parsed and throws
/// metro::Error{kUsage} that names the option, the value and what would be right. Numbers are
/// decimal and whole: no octal, no trailing text, no empty list entries.
namespace metro::cli {

struct IntRange {
  std::int64_t min = 0;
  std::int64_t max = std::numeric_limits<std::int32_t>::max();
};

struct RealRange {
  double min = 0;
  double max = 1e9;
};

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
/// Comma-separated sizes as in 7168x2048.
CLI::Option* add_size_list(CLI::App& command, const std::string& name,
                           std::vector<std::pair<int, int>>& values, IntRange range,
                           const std::string& help);

/// Whether what is no registered name means a file: it looks like a path, or something is there
/// (a link that leads nowhere, too).
bool is_file_name(const std::string& text, std::string_view suffix);

/// " (did you mean 'x'?)" for the closest of `names`, or nothing when none is close.
std::string did_you_mean(std::string_view text, std::span<const std::string_view> names);

/// "a, b, c".
std::string join(std::span<const std::string_view> names);

}  // namespace metro::cli
