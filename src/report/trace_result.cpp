// SPDX-License-Identifier: Apache-2.0
#include "report/trace_result.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "report/result.hpp"
#include "report/table.hpp"

namespace metro::report {

using Json = nlohmann::ordered_json;

namespace {

int hottest_experts(const RoutingTrace& trace) { return std::max(1, trace.num_experts() / 8); }

/// NaN becomes null.
Json spread_json(const std::vector<double>& per_layer) {
  const Spread all = spread(per_layer);
  return {{"min", all.min}, {"median", all.median}, {"max", all.max}, {"per_layer", per_layer}};
}

std::string number(double value, int digits) {
  return std::isnan(value) ? "-" : fmt::format("{:.{}f}", value, digits);
}

}  // namespace

Json trace_result(const std::filesystem::path& path, const RoutingTrace& trace,
                  const TraceStats& stats, std::uint64_t seed) {
  Json result = make_result("trace info", Evidence::kMeasured, seed, trace_files(path));
  result["model"] = trace.info().model;
  result["phase"] = trace.info().phase;
  result["source"] = trace.info().source;
  result["licence"] = trace.info().licence;
  result["tokens"] = trace.num_tokens();
  result["layers"] = trace.num_layers();
  result["topk"] = trace.topk();
  result["experts"] = trace.num_experts();
  result["sequences"] = trace.info().sequence_lengths.size();
  result["load_max_over_mean"] = spread_json(stats.max_over_mean);
  result["load_gini"] = spread_json(stats.gini);
  result["hottest_experts"] = hottest_experts(trace);
  result["hottest_share"] = spread_json(stats.hottest_share);
  result["coactivation_lift_p99"] = spread_json(stats.coactivation_lift_p99);

  Json lags = Json::array();
  for (const LagOverlap& entry : stats.shared_at_lag) {
    lags.push_back({{"lag", entry.lag},
                    {"shared", entry.shared},
                    {"vs_same_sequence", entry.shared / stats.shared_same_sequence}});
  }
  result["shared_experts"] = {
      {"different_sequence", stats.shared_different_sequence},
      {"same_sequence", stats.shared_same_sequence},
      {"same_vs_different", stats.shared_same_sequence / stats.shared_different_sequence},
      {"at_lag", std::move(lags)}};

  Json rows = Json::array();
  for (const ActivatedFraction& row : stats.activated) {
    rows.push_back({{"tokens", row.tokens},
                    {"batches", row.batches},
                    {"activated_fraction", row.fraction},
                    {"activated_experts", row.fraction * trace.num_experts()}});
  }
  result["rows"] = std::move(rows);
  return result;
}

std::string trace_table(const std::filesystem::path& path, const RoutingTrace& trace,
                        const TraceStats& stats) {
  Table skew({"over the layers", "min", "median", "max"}, 1);
  const auto add_skew = [&](std::string label, const std::vector<double>& per_layer) {
    const Spread all = spread(per_layer);
    skew.add_row({std::move(label), number(all.min, 2), number(all.median, 2), number(all.max, 2)});
  };
  add_skew("load max/mean", stats.max_over_mean);
  add_skew("load Gini", stats.gini);
  add_skew(fmt::format("share of the {} hottest", hottest_experts(trace)), stats.hottest_share);
  add_skew("co-activation lift, 99th percentile", stats.coactivation_lift_p99);

  Table sharing({"experts shared by two tokens", "mean", "vs same sequence"}, 1);
  const auto add_sharing = [&](std::string label, double shared) {
    sharing.add_row(
        {std::move(label), number(shared, 3), number(shared / stats.shared_same_sequence, 2)});
  };
  add_sharing("of different sequences", stats.shared_different_sequence);
  add_sharing("of one sequence", stats.shared_same_sequence);
  for (const LagOverlap& entry : stats.shared_at_lag) {
    add_sharing(fmt::format("of one sequence, {} apart", entry.lag), entry.shared);
  }

  Table activated({"tokens of a batch", "activated experts", "of all"});
  for (const ActivatedFraction& row : stats.activated) {
    activated.add_row({fmt::format("{}", row.tokens), number(row.fraction * trace.num_experts(), 1),
                       number(row.fraction, 3)});
  }
  const TraceInfo& info = trace.info();
  return fmt::format(
      "{}: {}{}{}, {} tokens x {} layers, top-{} of {} experts, {} sequences\n\n{}\n{}\n{}",
      path.string(), info.model, info.model.empty() ? "" : ", ", info.phase, trace.num_tokens(),
      trace.num_layers(), trace.topk(), trace.num_experts(), info.sequence_lengths.size(),
      skew.text(), sharing.text(), activated.text());
}

}  // namespace metro::report
