// SPDX-License-Identifier: Apache-2.0
// The paper's figures again: what must hold whatever the traces.
#include "metro/reproduce.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "metro/compare.hpp"
#include "metro/error.hpp"
#include "metro/trace_generator.hpp"
#include "report/reproduce_result.hpp"
#include "reproduce/runner.hpp"
#include "reproduce/system_values.hpp"

namespace metro::reproduction {
namespace {

constexpr std::int64_t kContext = 2048;

RoutingTrace small_trace(int num_experts) {
  RouterModel router = find_router_profile("qwen3-30b")->model;
  router.num_experts = num_experts;
  router.num_layers = 2;
  return generate_trace(router, std::vector<std::int64_t>(64, 8), "decode", 5);
}

double rival(const ReproducedRow& row, const std::string& key) {
  const auto found = std::ranges::find(row.beside, key, &std::pair<std::string, double>::first);
  EXPECT_NE(found, row.beside.end()) << key;
  return found == row.beside.end() ? 0 : found->second;
}

TEST(Reproduce, OrderOfDecodeStepsIsThePapers) {
  ReproduceSpec spec;
  spec.quick = true;
  Runner runner(spec);
  for (const Pair& pair : pairs()) {
    const auto step = [&](const System& system) {
      return runner.decode(pair, system, 1.5).at(pair.batch, kContext);
    };
    const double optimal = step(kOptimal).total_us();
    const double metro = step(kMetro).total_us();
    const double even = step(kEplb).total_us();
    EXPECT_LE(optimal, metro) << pair.model;
    EXPECT_LT(metro, even) << pair.model;
    EXPECT_GT(even, step(kNone).total_us()) << pair.model;
    // Invariant 6: on a homed placement the optimum never activates more than no replication.
    const int experts = find_model(pair.model)->num_experts;
    EXPECT_LE(step(kHomed).max_activated, step(kHome).max_activated + 1e-9) << pair.model;
    EXPECT_LE(step(kHome).max_activated, (experts + pair.gpus - 1) / pair.gpus) << pair.model;
    // No routing reads less than moe-TP.
    EXPECT_LE(step(kMoeTp).max_activated, step(kHomed).max_activated + 1e-9) << pair.model;
  }
}

TEST(Reproduce, ADecodeStepGrowsWithBatchAndContext) {
  const ReproduceSpec spec;
  Runner runner(spec);
  DecodeModel model = runner.decode(pairs().back(), kHomed, 1.25);
  EXPECT_LT(model.at(64, kContext).total_us(), model.at(256, kContext).total_us());
  EXPECT_LT(model.at(64, kContext).total_us(), model.at(64, 2 * kContext).total_us());
  EXPECT_GE(model.largest_batch(kContext), 2 * model.largest_batch(2 * kContext) - 16);
}

TEST(Reproduce, ReplicasTakeTheBatchThatMemoryHolds) {
  const ReproduceSpec spec;
  Runner runner(spec);
  for (const Pair& pair : pairs()) {
    const auto largest = [&](const System& system) {
      return runner.decode(pair, system, 1.5).largest_batch(kContext);
    };
    EXPECT_LT(largest(kHomed), largest(kNone)) << pair.model;
    EXPECT_EQ(largest(kHomed), largest(kEplb)) << pair.model;
    EXPECT_GE(largest(kEplb), pair.batch) << "the paper's batch fits: " << pair.model;
  }
}

TEST(Reproduce, FiguresDoNotDependOnThreads) {
  const auto text = [](int num_threads) {
    ReproduceSpec spec;
    spec.figures = {6};
    spec.quick = true;
    spec.num_threads = num_threads;
    nlohmann::ordered_json json;
    report::append_reproduction(json, spec, reproduce(spec));
    return json.dump();
  };
  EXPECT_EQ(text(1), text(3));
}

TEST(Reproduce, LayerPartsAreAsTheCostModelHasThem) {
  ReproduceSpec spec;
  spec.figures = {11};
  spec.quick = true;
  const Reproduction result = reproduce(spec);
  ASSERT_EQ(result.figures.size(), 1U);
  const ReproducedFigure& figure = result.figures.front();
  ASSERT_EQ(figure.plots.size(), pairs().size());
  for (const Plot& plot : figure.plots) {
    for (const PlotSeries& series : plot.series) {
      ASSERT_EQ(series.y.size(), plot.categories.size());
      for (const double us : series.y) EXPECT_GE(us, 0) << plot.title << ", " << series.name;
    }
  }
  for (const ReproducedRow& row : figure.rows) {
    if (row.quantity.starts_with("routing")) {
      // metro-paper takes 22 us a layer, even 6.3 (src/routing/policy_table.cpp).
      EXPECT_NEAR(row.ours, 22 - 6.3, 0.1) << row.where;
    }
    if (row.quantity.starts_with("experts")) {
      EXPECT_LT(row.ours, 0) << row.where;
      EXPECT_LT(rival(row, "none"), 0) << row.where;
    }
  }
}

TEST(Reproduce, ARecordedTraceServesTheModelsThatItFits) {
  ReproduceSpec spec;
  spec.figures = {6};
  spec.quick = true;
  spec.traces = {std::make_shared<const RoutingTrace>(small_trace(128))};
  const Reproduction result = reproduce(spec);
  EXPECT_TRUE(result.pairs[0].routing.starts_with("trace of")) << result.pairs[0].routing;
  EXPECT_TRUE(result.pairs[1].routing.starts_with("trace of")) << result.pairs[1].routing;
  EXPECT_TRUE(result.pairs[2].routing.starts_with("synthetic")) << result.pairs[2].routing;
}

TEST(Reproduce, RefusesWhatFitsNothing) {
  ReproduceSpec spec;
  spec.traces = {std::make_shared<const RoutingTrace>(small_trace(64))};
  EXPECT_THROW(reproduce(spec), Error);
  spec.traces.clear();
  spec.figures = {7};
  EXPECT_THROW(reproduce(spec), Error);
}

TEST(Reproduce, RequestsHaveTheLengthsOfTheirWorkload) {
  const std::vector<Request> requests = make_requests(kDecodeHeavy, 500, 1);
  ASSERT_EQ(requests.size(), 2000U);
  EXPECT_EQ(requests, make_requests(kDecodeHeavy, 500, 1));
  EXPECT_NE(requests, make_requests(kDecodeHeavy, 500, 2));
  double output = 0;
  for (const Request& request : requests) {
    EXPECT_GE(request.prompt_tokens, kDecodeHeavy.prompt / 2);
    EXPECT_LE(request.prompt_tokens, kDecodeHeavy.prompt / 2 * 3);
    output += request.output_tokens / 2000.0;
  }
  EXPECT_NEAR(output, kDecodeHeavy.output, 0.05 * kDecodeHeavy.output);
}

TEST(Reproduce, RowsCompareWithEveryRival) {
  std::vector<double> values(systems().size());
  std::iota(values.begin(), values.end(), 1.0);
  const ReproducedRow row = change_row("here", "TPOT", "-10", SystemValues(values), kMetro, kEplb);
  EXPECT_DOUBLE_EQ(row.ours, 100);  // 2 over 1
  EXPECT_DOUBLE_EQ(rival(row, "none"), 300);
  EXPECT_EQ(row.beside.size(), systems().size() - 2);
}

TEST(ActivatedMap, CountsWhatCompareCounts) {
  const RoutingTrace trace = small_trace(32);
  CompareSpec spec;
  spec.algorithms = {"eplb"};
  spec.gpus = {4};
  spec.replication = {1.5};
  spec.tokens = {16};
  spec.policies = {"even", "optimal"};
  spec.batches = 8;
  spec.seed = 3;
  for (const CompareRow& row : compare(trace, spec)) {
    const ActivatedMap map =
        activated_map(trace, {"eplb", 4, 1.5, 16, row.policy, spec.batches, spec.seed});
    ASSERT_EQ(map.activated.size(), 2U);
    double total = 0;
    double busiest = 0;
    for (const auto& layer : map.activated) {
      ASSERT_EQ(layer.size(), 4U);
      total += std::accumulate(layer.begin(), layer.end(), 0.0) / 2;
      busiest += *std::ranges::max_element(layer) / 2;
    }
    EXPECT_NEAR(total, row.activated_total, 1e-9) << row.policy;
    EXPECT_LE(busiest, row.max_activated + 1e-9) << "a mean's maximum, not a maximum's mean";
  }
  EXPECT_THROW(activated_map(trace, {"eplb", 4, 1.5, 16, "even", 0, 0}), Error);
}

}  // namespace
}  // namespace metro::reproduction
