// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "layer_bench/bench_grid.hpp"
#include "layer_bench/layer_bench.hpp"
#include "metro/ep/stages.hpp"

namespace metro::layer_bench {

/// One timed run of a layer on one rank.
struct BenchSample {
  double layer_us = 0;
  double replayed_us = 0;  ///< with the replica ids given
  ep::StageTimes stage_us{};
};

/// Every timed run of one row, [batches][repeats][ranks].
class BenchSamples {
 public:
  BenchSamples(int batches, int repeats, int ranks)
      : batches_(batches), repeats_(repeats), ranks_(ranks), samples_(index(batches, 0, 0)) {}

  [[nodiscard]] BenchSample& at(int batch, int repeat, int rank) {
    return samples_[index(batch, repeat, rank)];
  }
  [[nodiscard]] const BenchSample& at(int batch, int repeat, int rank) const {
    return samples_[index(batch, repeat, rank)];
  }

  /// Fills in times: a layer takes as long as its slowest rank, of the repeats the median counts,
  /// of the batches the mean. The stages are those of the rank whose experts took longest; they
  /// leave out what other ranks wait for them.
  void summarise(const BenchWork& work, double copy_gb_s, LayerBenchRow& row) const;

 private:
  [[nodiscard]] std::size_t index(int batch, int repeat, int rank) const noexcept {
    return (static_cast<std::size_t>(batch) * static_cast<std::size_t>(repeats_) +
            static_cast<std::size_t>(repeat)) *
               static_cast<std::size_t>(ranks_) +
           static_cast<std::size_t>(rank);
  }
  template <typename Value>
  [[nodiscard]] double slowest(int batch, int repeat, Value value) const;
  template <typename Value>
  [[nodiscard]] double median(Value value) const;

  int batches_;
  int repeats_;
  int ranks_;
  std::vector<BenchSample> samples_;
};

}  // namespace metro::layer_bench
