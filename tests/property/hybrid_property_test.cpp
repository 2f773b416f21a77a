// SPDX-License-Identifier: Apache-2.0
// Policy `hybrid` and its bound: invariants 1, 3 and 9 over random instances and costs, and against
// every split there is on tiny ones. METRO_HYBRID_INSTANCES sets how many instances.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "io/calibration_file.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/metrics.hpp"
#include "metro/modelled_time.hpp"
#include "metro/router.hpp"
#include "support/random_instance.hpp"

namespace metro {
namespace {

constexpr double kRounding = 1e-12;

using CostPtr = std::shared_ptr<const ExpertCost>;

std::size_t at(std::int64_t index) { return static_cast<std::size_t>(index); }

const char* asked_instances() { return std::getenv("METRO_HYBRID_INSTANCES"); }

std::uint64_t num_instances() {
  return asked_instances() == nullptr ? 20'000 : std::stoull(asked_instances());
}

/// Figures for people, who ask for them by a number of instances.
void tell(const char* what, double value) {
  if (asked_instances() != nullptr) std::printf("%s: %.3f %%\n", what, 100 * value);
}

/// Flat, steep, stepped, and neither convex nor concave.
CostPtr random_cost(std::uint64_t seed) {
  Rng rng(seed * 977 + 5);
  ExpertTimes times;
  times.base_us = rng.below(3) == 0 ? 0.0 : 20 * rng.uniform();
  const double first = rng.below(8) == 0 ? 0.0 : 30 * rng.uniform();
  const std::uint32_t kind = rng.below(4);
  const double slope = rng.uniform() * (rng.below(2) == 0 ? 1 : 10);
  double us = first;
  for (std::uint32_t n = 1, size = rng.below(61); n <= size; ++n) {
    if (n > 1 && (kind == 1 || (kind == 2 && n % 8 == 1))) us += kind == 1 ? slope : 8 * slope;
    if (n > 1 && kind == 3 && rng.below(3) == 0) us += 5 * slope * rng.uniform();
    times.phi_us.push_back(us);
  }
  times.beyond_us = kind == 0 ? 0 : slope;
  return std::make_shared<const ExpertCost>(times);
}

/// All that a file may hold: times of any size, beside each other.
CostPtr hostile_cost(std::uint64_t seed) {
  Rng rng(seed * 31 + 7);
  const bool extreme = rng.below(2) == 0;
  const auto any = [&] {
    if (rng.below(4) == 0) return 0.0;
    return std::pow(10, (rng.uniform() - 0.5) * (extreme ? 616 : 30));
  };
  ExpertTimes times;
  for (std::uint32_t n = 1, size = rng.below(20); n <= size; ++n) {
    times.phi_us.push_back(rng.below(2) == 0 ? times.phi_us.back()
                                             : std::max(times.phi_us.back(), any()));
  }
  times.beyond_us = any();
  times.base_us = any();
  return std::make_shared<const ExpertCost>(times);
}

std::vector<std::int32_t> routed(const test::Instance& instance, Router router) {
  std::vector<std::int32_t> ids(instance.topk.ids.size(), -7);
  router.route(instance.topk.view(), ids);
  return ids;
}

std::vector<std::int32_t> hybrid(const test::Instance& instance, const CostPtr& cost) {
  return routed(instance, Router(instance.placement, "hybrid", {.cost = cost}));
}

double slowest(const test::Instance& instance, const CostPtr& cost,
               const std::vector<std::int32_t>& ids) {
  return TimeCounter(instance.placement, cost).count(ids).slowest_us;
}

// Invariants 1, 3 and 9.
TEST(Hybrid, IsNeverAboveItsCandidatesNorBelowItsBound) {
  std::uint64_t others = 0;
  std::uint64_t won = 0;
  double gap = 0;
  const std::uint64_t count = num_instances();
  for (std::uint64_t seed = 0; seed < count; ++seed) {
    SCOPED_TRACE(seed);
    const test::Instance instance = test::random_instance(seed);
    const CostPtr cost = random_cost(seed);
    const std::vector<std::int32_t> ids = hybrid(instance, cost);
    for (std::size_t i = 0; i < ids.size(); ++i) {
      const std::int32_t expert = instance.topk.ids[i];
      if (expert == kMasked) {
        ASSERT_EQ(ids[i], kMasked);
      } else {
        ASSERT_GE(ids[i], 0);
        ASSERT_EQ(instance.placement.replica_to_expert.at(at(ids[i])), expert);
      }
    }
    if (seed % 16 == 0) {
      ASSERT_EQ(ids, hybrid(instance, cost));
    }
    const double time = slowest(instance, cost, ids);
    const double bound = time_bound_us(instance.placement, *cost, instance.topk.view());
    ASSERT_GE(time, bound);
    gap += bound > 0 ? time / bound - 1 : 0;
    const CostPtr hostile = hostile_cost(seed);
    const double hostile_time = slowest(instance, hostile, hybrid(instance, hostile));
    ASSERT_LE(time_bound_us(instance.placement, *hostile, instance.topk.view()), hostile_time);
    for (const std::string_view candidate : {"home", "single", "optimal", "even"}) {
      const auto rival = routed(instance, Router(instance.placement, candidate));
      ASSERT_LE(time, slowest(instance, cost, rival)) << candidate;
      ASSERT_LE(hostile_time, slowest(instance, hostile, rival)) << candidate;
    }
    if (seed % 8 != 0) continue;
    for (const PolicyInfo& policy : policies()) {
      const auto rival = routed(instance, Router(instance.placement, policy.name));
      won += time <= slowest(instance, cost, rival) ? 1U : 0U;
      ++others;
    }
  }
  gap /= static_cast<double>(count);
  const double at_most = static_cast<double>(won) / static_cast<double>(others);
  tell("mean gap to the bound", gap);
  tell("at most another policy, of pairs", at_most);
  EXPECT_GE(at_most, 0.99);
  EXPECT_LE(gap, 0.10);
}

TEST(Hybrid, HasTheMaxActivatedOfOptimalWherePhiIsFlat) {
  std::vector<ExpertTimes> flat{{{0}, 0, 0}, {{0}, 0, 3}, {{0, 7}, 0, 3}, {{0, 0.1}, 0, 1e300}};
  flat.push_back({{0, 5e-324}, 0, 1e9});
  ExpertTimes rising{.phi_us = std::vector<double>(1000, 0.3), .beyond_us = 2};
  rising.phi_us[0] = 0;
  flat.push_back(rising);
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    SCOPED_TRACE(seed);
    const test::Instance instance = test::random_instance(seed);
    MetricsCounter counter(instance.placement);
    const auto optimal = routed(instance, Router(instance.placement, "optimal"));
    const int expected = counter.count(optimal).max_activated;
    for (const ExpertTimes& times : flat) {
      const auto cost = std::make_shared<const ExpertCost>(times);
      ASSERT_EQ(counter.count(hybrid(instance, cost)).max_activated, expected);
      const double time = slowest(instance, cost, optimal);
      ASSERT_NEAR(time_bound_us(instance.placement, *cost, instance.topk.view()), time,
                  time * kRounding);
    }
  }
}

/// The least time of the slowest GPU over every split of every expert.
double least_of_all(const test::Instance& instance, const ExpertCost& cost) {
  const LayerPlacement& placement = instance.placement;
  std::vector<std::int64_t> tokens(at(placement.num_experts));
  for (const std::int32_t id : instance.topk.ids) {
    if (id != kMasked) ++tokens[at(id)];
  }
  std::vector<double> load(at(placement.num_gpus), cost.base());
  double best = std::numeric_limits<double>::max();
  // Slot by slot; whatever an expert has left after its last slot is no split.
  const std::function<void(int)> visit = [&](int slot) {
    if (slot == placement.num_replicas()) {
      if (std::ranges::all_of(tokens, [](std::int64_t left) { return left == 0; })) {
        best = std::min(best, *std::ranges::max_element(load));
      }
      return;
    }
    std::int64_t& left = tokens[at(placement.replica_to_expert[at(slot)])];
    double& gpu = load[at(placement.replica_to_gpu[at(slot)])];
    const std::int64_t had = left;
    for (std::int64_t part = 0; part <= had; ++part) {
      left = had - part;
      const double before = gpu;
      gpu += cost.phi(part);
      visit(slot + 1);
      gpu = before;
    }
    left = had;
  };
  visit(0);
  return best;
}

TEST(Hybrid, LiesBetweenTheBestSplitAndAFewPerCentAbove) {
  double above = 0;
  double below = 0;
  constexpr int kCount = 3000;
  for (std::uint64_t seed = 0; seed < kCount; ++seed) {
    SCOPED_TRACE(seed);
    const test::Instance instance = test::random_instance(
        seed, {.max_experts = 3, .max_gpus = 3, .max_tokens = 4, .max_topk = 2});
    const CostPtr cost = random_cost(seed);
    const double least = least_of_all(instance, *cost);
    const double time = slowest(instance, cost, hybrid(instance, cost));
    const double bound = time_bound_us(instance.placement, *cost, instance.topk.view());
    ASSERT_LE(bound, least * (1 + kRounding));
    ASSERT_LE(least, time * (1 + kRounding));
    if (least == 0) continue;
    above += time / least - 1;
    below += 1 - bound / least;
  }
  tell("tiny instances, mean above the best split", above / kCount);
  tell("tiny instances, bound below the best split", below / kCount);
  EXPECT_LT(above / kCount, 0.01);
}

TEST(ExpertCost, LeastIsAtMostEverySplit) {
  for (std::uint64_t seed = 0; seed < 300; ++seed) {
    const CostPtr cost = random_cost(seed);
    std::vector<double> best(700);
    for (std::size_t n = 1; n < best.size(); ++n) {
      best[n] = cost->phi(static_cast<std::int64_t>(n));
      for (std::size_t part = 1; part <= n / 2; ++part) {
        best[n] = std::min(best[n], best[part] + best[n - part]);
      }
      ASSERT_LE(cost->least(static_cast<std::int64_t>(n)), best[n] * (1 + kRounding))
          << seed << " " << n;
    }
  }
}

TEST(ExpertCost, StandardIsTheShippedCalibration) {
  const Calibration shipped = io::read_calibration(METRO_SOURCE_DIR "/data/calibration/h100.json");
  const auto found = std::ranges::find_if(shipped.experts, [](const auto& expert) {
    return expert.hidden == 7168 && expert.intermediate == 2048 &&
           expert.weights == DataType::kBf16;
  });
  ASSERT_NE(found, shipped.experts.end());
  const ExpertCost expected = ExpertCost::from_points(found->phi_us, found->base_us);
  EXPECT_EQ(ExpertCost::standard()->base(), expected.base());
  for (const std::int64_t n : {0, 1, 3, 48, 128, 200, 1023, 1024, 5000}) {
    EXPECT_EQ(ExpertCost::standard()->phi(n), expected.phi(n)) << n;
  }
  EXPECT_NEAR(expected.phi(192), (34.5302 + 49.9376) / 2, 1e-9);
  EXPECT_NEAR(expected.phi(5120), 171.0527 + (4096 * (171.0527 - 49.9376) / 768), 1e-9);
}

std::string error_of(const ExpertTimes& times) {
  try {
    ExpertCost{times};
  } catch (const Error& error) {
    return error.what();
  }
  return "no error";
}

TEST(ExpertCost, NamesWhatIsWrong) {
  EXPECT_EQ(error_of({{}, 0, 0}), "phi is empty, must start with phi(0), which is 0");
  EXPECT_EQ(error_of({{1, 2}, 0, 0}), "phi[0] is 1, must be 0: no tokens take no time");
  EXPECT_EQ(error_of({{0, 2, 1}, 0, 0}), "phi[2] is 1, must be at least phi[1], which is 2");
  EXPECT_NE(error_of({{0, 2}, -1, 0}).find("beyond is -1"), std::string::npos);
  EXPECT_NE(error_of({{0, 2}, 0, -1}).find("base is -1"), std::string::npos);
}

}  // namespace
}  // namespace metro
