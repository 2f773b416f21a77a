// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "metro/trace.hpp"
#include "metro/trace_stats.hpp"

namespace metro::report {

/// The result of `metro trace info`: the envelope, shape, skew, and one row a batch size. NaN (what
/// a trace is too short to tell) becomes null.
nlohmann::ordered_json trace_result(const std::filesystem::path& path, const RoutingTrace& trace,
                                    const TraceStats& stats, std::uint64_t seed);

/// The same for people.
std::string trace_table(const std::filesystem::path& path, const RoutingTrace& trace,
                        const TraceStats& stats);

}  // namespace metro::report
