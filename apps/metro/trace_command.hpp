// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <array>
#include <filesystem>
#include <string_view>

namespace metro::cli {

inline constexpr std::array<std::string_view, 3> kPhases = {"decode", "prefill", "mixed"};

void add_trace_info(CLI::App& trace);
void add_trace_convert(CLI::App& trace);
void add_trace_generate(CLI::App& trace);

/// Throws Error{kUsage} unless `output` ends in `.npy`: a trace's sidecar takes its stem.
void check_trace_name(const std::filesystem::path& output);

}  // namespace metro::cli
