// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <vector>

#include "layer_bench/bench_grid.hpp"
#include "layer_bench/bench_samples.hpp"
#include "layer_bench/layer_bench.hpp"
#include "metro/ep/transport.hpp"
#include "metro/topk.hpp"

namespace metro::layer_bench {

/// One model on so many ranks with one kernel: what its rows are timed with.
struct CpuBenchPoint {
  const BenchModel& model;
  const LayerBenchOptions& options;
  int gpus;
  std::string_view kernel;
  int threads;  ///< of a rank
  double copy_gb_s;
};

/// Called after each number of tokens with the rows that it made.
using RowsDone = std::function<void(std::vector<LayerBenchRow>)>;

/// Ranks that are there: whole layers over the transport.
void bench_cpu_ranks(const CpuBenchPoint& point, ep::Transport& transport, const RowsDone& done);

/// Ranks that take turns here: gate, router and every rank's experts, each timed alone.
/// Communication is not in the times.
void bench_cpu_virtual_ranks(const CpuBenchPoint& point, const RowsDone& done);

/// Of random tokens, [count][hidden].
std::vector<float> bench_tokens(int count, int hidden, std::uint64_t seed);

/// The replicas that each batch is served by under a case; expert ids for moe-TP.
std::vector<std::vector<std::int32_t>> route_batches(const BenchCase& of,
                                                     const std::vector<TopkBatch>& batches,
                                                     std::uint64_t seed);

/// A row for each case from its samples, [cases].
std::vector<LayerBenchRow> bench_rows(const CpuBenchPoint& point, int tokens_per_gpu,
                                      const std::vector<BenchCase>& cases,
                                      const std::vector<TopkBatch>& batches,
                                      const std::vector<BenchSamples>& samples,
                                      std::string_view evidence);

}  // namespace metro::layer_bench
