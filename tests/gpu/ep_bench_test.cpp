// SPDX-License-Identifier: Apache-2.0
// `bench layer` on a GPU, with a model so small that only its bookkeeping counts.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <string>

#include "gpu/device_test.hpp"
#include "layer_bench/cuda/layer_bench_cuda.hpp"

namespace metro::layer_bench::cuda {
namespace {

ModelConfig tiny_model() {
  ModelConfig model;
  model.name = "tiny";
  model.hidden = 256;
  model.num_layers = 1;
  model.num_experts = 32;
  model.topk = 4;
  model.expert_intermediate = 128;
  model.shared_intermediate = 64;
  model.weights = DataType::kBf16;
  return model;
}

LayerBenchOptions tiny_bench(int gpus) {
  LayerBenchOptions options;
  options.models = {tiny_model()};
  options.gpus = {gpus};
  options.tokens_per_gpu = {1, 8};
  options.replication = {1.5};
  options.algorithm = "homed";
  options.policies = {"even", "home", "optimal"};
  options.dtypes = {DataType::kBf16, DataType::kFp8};
  options.batches = 2;
  options.repeats = 3;
  return options;
}

class EpBench : public test::DeviceTest {
 protected:
  static void check(const LayerBenchOptions& options, const std::string& evidence) {
    const auto result = run_layer_bench_cuda(options);
    ASSERT_TRUE(result.has_value());
    EXPECT_GT(result->copy_gb_s, 100);
    ASSERT_EQ(result->rows.size(), 2U * 2 * 5);
    std::map<std::string, double> most;  // of the group that the row is in
    for (const LayerBenchRow& row : result->rows) {
      const std::string what = row.policy + ", " + row.dtype;
      if (row.policy == kEplbOff) most.clear();
      most[row.policy] = row.max_activated;
      EXPECT_EQ(row.evidence, evidence) << what;
      EXPECT_GT(row.layer_us, 0) << what;
      EXPECT_GT(row.achieved_gb_s, 0) << what;
      EXPECT_TRUE(std::isfinite(row.exposed_routing_us)) << what;
      EXPECT_EQ(row.experts_us_per_rank.size(), static_cast<std::size_t>(row.gpus)) << what;
      EXPECT_EQ(row.activated_per_rank.size(), static_cast<std::size_t>(row.gpus)) << what;
      EXPECT_LE(*std::ranges::max_element(row.activated_per_rank), row.max_activated + 1e-9);
      if (row.policy != "optimal") continue;
      for (const auto& [policy, activated] : most) {
        if (policy == kMoeTp) continue;
        EXPECT_LE(row.max_activated, activated) << policy;
      }
    }
  }
};

TEST_F(EpBench, EmulatesRanks) { check(tiny_bench(4), "emulated"); }

TEST_F(EpBench, MeasuresTheRanksThatItHas) {
  int visible = 0;
  METRO_CUDA_CHECK(cudaGetDeviceCount(&visible));
  if (32 % visible != 0) GTEST_SKIP() << visible << " GPUs";
  LayerBenchOptions options = tiny_bench(visible);
  if (visible == 1) options.replication = {1.0};  // one GPU has no room for second copies
  check(options, "measured");
  options.dispatch = ep::Dispatch::kAllToAll;
  options.sharding = ep::ExpertSharding::kExpertParallel;
  EXPECT_NO_THROW(run_layer_bench_cuda(options));
}

TEST_F(EpBench, RefusesAllToAllForVirtualRanks) {
  LayerBenchOptions options = tiny_bench(4);
  options.dispatch = ep::Dispatch::kAllToAll;
  EXPECT_THROW(run_layer_bench_cuda(options), Error);
}

}  // namespace
}  // namespace metro::layer_bench::cuda
