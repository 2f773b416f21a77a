// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <numeric>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/parallel.hpp"
#include "core/rng.hpp"
#include "metro/batches.hpp"
#include "metro/compare.hpp"
#include "metro/error.hpp"
#include "replay/synthetic_batches.hpp"
#include "report/html.hpp"
#include "report/table.hpp"
#include "trace_support.hpp"

namespace metro {
namespace {

RoutingTrace trace_of(std::vector<std::int64_t> lengths, int num_layers = 3, int num_experts = 16) {
  const std::int64_t tokens = std::accumulate(lengths.begin(), lengths.end(), std::int64_t{0});
  constexpr int kTopk = 2;
  Rng rng(5);
  std::vector<std::uint16_t> ids(static_cast<std::size_t>(tokens * num_layers * kTopk));
  for (auto& id : ids) {
    id = static_cast<std::uint16_t>(rng.below(static_cast<std::uint32_t>(num_experts)));
  }
  TraceInfo info{num_experts, "random", "decode", std::move(lengths), "a test", ""};
  return make_trace(std::move(ids), tokens, num_layers, kTopk, std::move(info));
}

std::vector<std::int64_t> draw(DecodeBatches& batches, std::int64_t tokens, std::uint64_t seed,
                               std::uint64_t index) {
  const auto rows = batches.draw(tokens, seed, index);
  return {rows.begin(), rows.end()};
}

TEST(DecodeBatches, EachRoundTakesOneTokenOfEverySequenceThatHasOneLeft) {
  const std::vector<std::int64_t> lengths = {4, 9, 1, 2, 8};  // the half at 12 cuts the second
  const RoutingTrace trace = trace_of(lengths);
  const std::vector<int> sequence_of = {1, 2, 3, 3, 4, 4, 4, 4, 4, 4, 4, 4};
  DecodeBatches batches(trace, 12, 24);
  ASSERT_EQ(batches.capacity(), 12);
  for (std::uint64_t index = 0; index < 50; ++index) {
    const auto rows = draw(batches, 12, 3, index);
    EXPECT_EQ(std::set(rows.begin(), rows.end()).size(), 12U) << "a token came twice";
    std::vector<int> order;
    for (const std::int64_t row : rows) {
      ASSERT_GE(row, 12);
      order.push_back(sequence_of[static_cast<std::size_t>(row - 12)]);
    }
    EXPECT_EQ(std::set(order.begin(), order.begin() + 4), (std::set{1, 2, 3, 4}));
    EXPECT_EQ(std::set(order.begin() + 4, order.begin() + 6), (std::set{3, 4}));
    EXPECT_TRUE(std::all_of(order.begin() + 6, order.end(), [](int s) { return s == 4; }));
  }
}

TEST(DecodeBatches, ThereIsNoBatchBelowNothing) {
  const RoutingTrace trace = test::one_layer({{0}, {1}}, 2, {2});
  DecodeBatches batches(trace, 0, 2);
  EXPECT_TRUE(batches.draw(0, 0, 0).empty());
  EXPECT_THROW(batches.draw(-1, 0, 0), Error);
}

TEST(DecodeBatches, ABatchDependsOnSeedSizeAndIndexOnly) {
  const RoutingTrace trace = trace_of({10, 10, 10, 10});
  DecodeBatches one(trace, 20, 40);
  DecodeBatches other(trace, 20, 40);
  for (std::uint64_t i = 9; i > 0; --i) draw(other, 5, 1, i);
  EXPECT_EQ(draw(one, 7, 1, 4), draw(other, 7, 1, 4));
  EXPECT_NE(draw(one, 7, 1, 4), draw(one, 7, 1, 5));
  EXPECT_NE(draw(one, 7, 1, 4), draw(one, 7, 2, 4));
}

TEST(DecodeBatches, EveryTokenIsDrawnAboutEquallyOften) {
  const RoutingTrace trace = trace_of({16, 16});
  DecodeBatches batches(trace, 16, 32);
  std::vector<int> count(16, 0);
  constexpr int kDraws = 16000;
  for (std::uint64_t i = 0; i < kDraws; ++i) {
    ++count[static_cast<std::size_t>(batches.draw(1, 0, i).front() - 16)];
  }
  for (const int n : count) EXPECT_NEAR(n, kDraws / 16, 150);  // five standard deviations
}

TEST(DecodeBatches, MoreTokensThanThereAre) {
  const RoutingTrace trace = trace_of({4, 4});
  DecodeBatches batches(trace, 4, 8);
  EXPECT_THROW(batches.draw(5, 0, 0), Error);
}

TEST(Compare, TheNumberOfThreadsChangesNothing) {
  const RoutingTrace trace = trace_of(std::vector<std::int64_t>(8, 16), 7);
  CompareSpec spec{.algorithms = {"eplb", "homed"},
                   .gpus = {4, 2},
                   .replication = {1.0, 1.5},
                   .tokens = {4, 16},
                   .policies = {"random", "optimal", "shares"},
                   .batches = 3,
                   .seed = 9};
  spec.num_threads = 1;
  const auto one = compare(trace, spec);
  spec.num_threads = 4;
  const auto four = compare(trace, spec);
  ASSERT_EQ(one.size(), 2U * 2 * 2 * 2 * 3);
  for (std::size_t i = 0; i < one.size(); ++i) {
    EXPECT_EQ(one[i].policy, four[i].policy);
    EXPECT_EQ(one[i].max_activated, four[i].max_activated);
    EXPECT_EQ(one[i].max_tokens, four[i].max_tokens);
    EXPECT_EQ(one[i].worse_than_none, four[i].worse_than_none);
  }
}

TEST(Compare, ProgressReachesTheEnd) {
  const RoutingTrace trace = trace_of({8, 8}, 5);
  const CompareSpec spec{.gpus = {2}, .replication = {1.0}, .tokens = {2}, .policies = {"home"}};
  std::vector<std::size_t> seen;
  compare(trace, spec, [&](std::size_t done, std::size_t total) {
    EXPECT_EQ(total, 5U);
    seen.push_back(done);
  });
  EXPECT_EQ(seen, (std::vector<std::size_t>{1, 2, 3, 4, 5}));
}

TEST(Compare, ATraceOfMaskedTokensIsWorthNothingAndDividesByNothing) {
  TraceInfo info{4, "masked", "decode", {8}, "", ""};
  auto bytes = std::make_shared<std::vector<std::int8_t>>(8 * 2, std::int8_t{-1});
  const auto* data = reinterpret_cast<const std::byte*>(bytes->data());
  const RoutingTrace trace(bytes, data, 1, true, 8, 1, 2, std::move(info));
  const CompareSpec spec{.gpus = {2}, .replication = {1.5}, .tokens = {2}, .policies = {"optimal"}};
  const auto rows = compare(trace, spec);
  EXPECT_EQ(rows.front().max_activated, 0);
  EXPECT_EQ(rows.front().vs_no_replication, 1);
  EXPECT_EQ(rows.front().token_imbalance, 1);
}

TEST(ForEachParallel, EachOnceAndTheFirstExceptionComesOut) {
  std::vector<std::atomic<int>> calls(100);
  for_each_parallel(100, 3, [&](std::size_t i) { ++calls[i]; });
  EXPECT_TRUE(std::ranges::all_of(calls, [](const auto& n) { return n == 1; }));
  EXPECT_THROW(for_each_parallel(100, 3,
                                 [](std::size_t i) {
                                   if (i == 7) throw std::runtime_error("seven");
                                 }),
               std::runtime_error);
  for_each_parallel(0, 0, [](std::size_t) { FAIL(); });
}

TEST(SyntheticBatches, DistinctExpertsDrawnByLoad) {
  std::vector<double> loads(32, 1.0);
  loads[3] = 20;
  int with_hot = 0;
  for (const TopkBatch& batch : draw_batches(loads, 50, 4, 4, 1)) {
    batch.validate(32);
    for (int t = 0; t < batch.num_tokens; ++t) {
      const auto begin = batch.ids.begin() + t * 4;
      const std::set<std::int32_t> experts(begin, begin + 4);
      EXPECT_EQ(experts.size(), 4U);
      with_hot += experts.contains(3) ? 1 : 0;
    }
  }
  EXPECT_GT(with_hot, 140);  // of 200; a uniform draw gives 25
  EXPECT_LT(with_hot, 200);
}

TEST(Report, TablesAreAligned) {
  report::Table table({"name", "n"}, 1);
  table.add_row({"a", "100"});
  table.add_row({"longer", "7"});
  EXPECT_EQ(table.text(), "name      n\na       100\nlonger    7\n");
}

TEST(Report, NothingEscapesFromHtml) {
  EXPECT_EQ(report::escape_html("<a href=\"x\">'&'</a>"),
            "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
  const std::string json = report::script_json({{"k", "</script><!--\xff"}});
  EXPECT_EQ(json.find('<'), std::string::npos);
  EXPECT_EQ(nlohmann::json::parse(json)["k"], "</script><!--\xef\xbf\xbd");
}

}  // namespace
}  // namespace metro
