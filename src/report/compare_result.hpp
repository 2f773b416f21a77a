// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "metro/activated_map.hpp"
#include "metro/compare.hpp"
#include "metro/trace.hpp"
#include "report/table.hpp"

namespace metro::report {

/// One trace and what `compare` found on it.
struct TraceComparison {
  std::string path;
  TraceInfo info;
  std::int64_t num_tokens = 0;
  int num_layers = 0;
  int topk = 0;
  std::vector<CompareRow> rows;
  std::vector<ActivatedMap> maps;
};

/// The result of `metro compare`: the envelope, the traces, and one row per trace and grid point.
/// Reads the traces' files, and `more_inputs`, for their SHA-256.
nlohmann::ordered_json compare_result(const CompareSpec& spec,
                                      const std::vector<TraceComparison>& comparisons,
                                      const std::vector<std::filesystem::path>& more_inputs = {});

/// What heat maps of a comparison show: its largest GPUs-and-replication point that pages headline,
/// few tokens, where choosing replicas matters most, under the even split and `optimal`.
std::vector<ActivatedMapSpec> map_specs(const CompareSpec& spec);

/// A table per trace for people: one line per grid point, one column per policy; another of
/// modelled times where the spec has a cost.
std::string compare_table(const CompareSpec& spec, const std::vector<TraceComparison>& comparisons,
                          int width = kAnyWidth);

/// "EP 16, ..." as people write numbers: "1.25", "2".
std::string short_number(double value);

}  // namespace metro::report
