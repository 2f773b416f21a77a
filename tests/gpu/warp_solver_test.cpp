// SPDX-License-Identifier: Apache-2.0
// The code that the kernels run in one warp, emulated on the CPU, against the CPU's policies.
#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda/activation_warp.hpp"
#include "cuda/greedy_warp.hpp"
#include "cuda/layer_table.hpp"
#include "gpu/emulated_warp.hpp"
#include "metro/metrics.hpp"
#include "metro/router.hpp"
#include "support/random_instance.hpp"

namespace metro::cuda {
namespace {

std::size_t at(int index) { return static_cast<std::size_t>(index); }

/// Where a solver waits for all lanes: the lines that it has come to, and those to leave out.
struct SyncPoints {
  std::set<unsigned> seen;
  std::set<unsigned> left_out;
};

/// A lane that leaves out syncs, all lanes the same ones.
class Lane : public test::WarpEmulator::Lane {
 public:
  Lane(const test::WarpEmulator::Lane& lane, SyncPoints& points)
      : test::WarpEmulator::Lane(lane), points_(&points) {}

  void sync(std::source_location where = std::source_location::current()) const {
    points_->seen.insert(where.line());
    if (!points_->left_out.contains(where.line())) test::WarpEmulator::Lane::sync();
  }

 private:
  SyncPoints* points_;
};

/// What a kernel does with one batch.
class EmulatedRouter {
 public:
  EmulatedRouter(const LayerPlacement& placement, std::string_view policy, std::uint64_t seed = 0)
      : warp_(seed),
        policy_(device_policy(policy)),
        layout_(table_layout(policy_, placement.num_experts, placement.num_gpus,
                             placement.num_replicas())),
        table_(at(layout_.total_words)) {
    build_layer_table(placement, policy_, layout_, table_);
  }

  std::vector<std::int32_t> route(const TopkBatch& topk) {
    scratch_.assign(at(layout_.num_gpus * layout_.mask_words + 32), 0xDEADBEEFU);
    gpu_of_.assign(at(layout_.num_experts), kUnmoved);
    if (policy_ == DevicePolicy::kOptimal) {
      solve_with_words<ActivationWarp>(topk);
    } else {
      solve_with_words<GreedyWarp>(topk);
    }
    std::vector<std::int32_t> ids;
    for (const std::int32_t id : topk.ids) ids.push_back(id < 0 ? -1 : slot_of(id));
    return ids;
  }

  int max_activated = -1;
  std::vector<std::int32_t> loads;
  SyncPoints points;

 private:
  template <template <class, int, int> class Solver>
  void solve_with_words(const TopkBatch& topk) {
    const bool one_set = layout_.num_gpus <= 32;
    switch (layout_.mask_words) {
      case 8:
        return one_set ? solve<Solver, 8, 1>(topk) : solve<Solver, 8, 2>(topk);
      case 16:
        return one_set ? solve<Solver, 16, 1>(topk) : solve<Solver, 16, 2>(topk);
      default:
        return one_set ? solve<Solver, 32, 1>(topk) : solve<Solver, 32, 2>(topk);
    }
  }

  template <template <class, int, int> class Solver, int kWords, int kGpuSets>
  void solve(const TopkBatch& topk) {
    std::uint32_t active[kWords] = {};
    for (const std::int32_t id : topk.ids) {
      if (id >= 0) active[id / 32] |= 1U << (id % 32);
    }
    loads.assign(64, 0);
    const SolverMemory memory{layout_, table_.data(), scratch_.data(), gpu_of_.data()};
    warp_.run([&](const test::WarpEmulator::Lane& emulated) {
      const Lane lane(emulated, points);
      Solver<Lane, kWords, kGpuSets> solver(memory, lane);
      const int most = solver.solve(active);
      if (lane.lane() == 0) max_activated = most;
      for (int set = 0; set < kGpuSets; ++set) loads[at(lane.lane() + 32 * set)] = solver.load(set);
    });
    loads.resize(at(layout_.num_gpus));
  }

  std::int32_t slot_of(int expert) const {
    const std::uint8_t gpu = gpu_of_[at(expert)];
    if (gpu == kUnmoved) return static_cast<std::int32_t>(table_[at(layout_.slots + expert)]);
    const std::uint32_t list = table_[at(layout_.lists + expert)];
    for (std::uint32_t i = 0; i < list >> 16; ++i) {
      const std::uint32_t entry = table_[at(layout_.entries) + (list & 0xFFFFU) + i];
      if (entry >> 16 == gpu) return static_cast<std::int32_t>(entry & 0xFFFFU);
    }
    return -2;
  }

  test::WarpEmulator warp_;
  DevicePolicy policy_;
  TableLayout layout_;
  std::vector<std::uint32_t> table_;
  std::vector<std::uint32_t> scratch_;
  std::vector<std::uint8_t> gpu_of_;
};

class WarpSolver : public testing::TestWithParam<const char*> {
 protected:
  static void check(const test::InstanceShape& shape, std::uint64_t instances) {
    for (std::uint64_t seed = 0; seed < instances; ++seed) {
      const test::Instance instance = test::random_instance(seed, shape);
      Router reference(instance.placement, GetParam());
      std::vector<std::int32_t> expected(instance.topk.ids.size());
      reference.route(instance.topk.view(), expected);
      EmulatedRouter router(instance.placement, GetParam(), seed);
      ASSERT_EQ(router.route(instance.topk), expected) << "seed " << seed;
      MetricsCounter counter(instance.placement);
      const RoutingMetrics& metrics = counter.count(expected);
      ASSERT_EQ(router.loads, metrics.activated_per_gpu) << "seed " << seed;
      ASSERT_EQ(router.max_activated, metrics.max_activated) << "seed " << seed;
    }
  }
};

INSTANTIATE_TEST_SUITE_P(Cuda, WarpSolver, testing::Values("optimal", "metro", "metro-paper"),
                         [](const auto& test) {
                           std::string name(test.param);
                           std::ranges::replace(name, '-', '_');
                           return name;
                         });

TEST_P(WarpSolver, EqualsTheCpuOnSmallInstances) { check({48, 12, 40, 8}, 3000); }
TEST_P(WarpSolver, EqualsTheCpuOnManyGpus) { check({160, 64, 60, 8}, 600); }
TEST_P(WarpSolver, EqualsTheCpuOnManyExperts) { check({1024, 64, 300, 10}, 150); }

/// Whether one of the first instances comes out wrong without the syncs in lines `left_out`; adds
/// the lines that it came to.
bool is_missed(std::string_view policy, std::uint64_t instances, const std::set<unsigned>& left_out,
               std::set<unsigned>& lines) {
  for (std::uint64_t seed = 0; seed < instances; ++seed) {
    const test::Instance instance = test::random_instance(seed, {48, 12, 40, 8});
    std::vector<std::int32_t> expected(instance.topk.ids.size());
    Router(instance.placement, policy).route(instance.topk.view(), expected);
    EmulatedRouter router(instance.placement, policy, seed);
    router.points.left_out = left_out;
    try {
      if (router.route(instance.topk) != expected) return true;
    } catch (const std::logic_error&) {
      return true;  // lanes went different ways
    }
    lines.merge(router.points.seen);
  }
  return false;
}

/// The checks above can fail: syncs that are missing are found. (Most of `optimal`'s stand beside
/// another warp-wide operation, which hides a single one that is missing.)
TEST_P(WarpSolver, MissesSyncsThatAreLeftOut) {
  std::set<unsigned> lines;
  EXPECT_FALSE(is_missed(GetParam(), 200, {}, lines));
  ASSERT_FALSE(lines.empty());
  const std::set<unsigned> all = lines;
  EXPECT_TRUE(is_missed(GetParam(), 3000, all, lines));
}

}  // namespace
}  // namespace metro::cuda
