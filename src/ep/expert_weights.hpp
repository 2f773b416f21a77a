// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "ep/layer_config.hpp"
#include "ep/weight_matrix.hpp"

namespace metro::ep {

/// The part of every expert's intermediate width that a rank holds: all of it, or, tensor-sharded,
/// a 1/G of it (widths differ by at most one).
struct Shard {
  int begin = 0;
  int end = 0;
  [[nodiscard]] int width() const noexcept { return end - begin; }
};
Shard shard_of(int intermediate, int rank, int num_ranks) noexcept;

/// Random weights of one expert, or of a shard of it (random_weights.hpp); owns them.
class RandomExpert {
 public:
  /// `whole_width` is the intermediate width of the whole expert.
  RandomExpert(DataType type, int hidden, int whole_width, Shard shard, std::uint64_t seed,
               std::uint32_t expert);
  RandomExpert(const RandomExpert&) = delete;
  RandomExpert& operator=(const RandomExpert&) = delete;

  [[nodiscard]] const ExpertWeights& view() const noexcept { return view_; }

 private:
  std::vector<std::byte> values_;
  std::vector<float> scales_;
  ExpertWeights view_;
};

/// Where a rank finds the weights of the replicas it serves.
class WeightSource {
 public:
  WeightSource() = default;
  virtual ~WeightSource() = default;
  WeightSource(const WeightSource&) = delete;
  WeightSource& operator=(const WeightSource&) = delete;

  /// Valid as long as the source. `slot` is the replica's.
  virtual const ExpertWeights& weights(int slot, int expert) = 0;
};

/// Every expert's own weights, made when first asked for: what a placement can change to costs
/// nothing before it does. One thread at a time.
class RandomExperts final : public WeightSource {
 public:
  RandomExperts(const LayerShape& shape, Shard shard, std::uint64_t seed)
      : shape_(shape), shard_(shard), seed_(seed) {}
  const ExpertWeights& weights(int slot, int expert) override;

 private:
  LayerShape shape_;
  Shard shard_;
  std::uint64_t seed_;
  std::map<int, std::unique_ptr<RandomExpert>> experts_;
};

/// A bounded pool for timing: slot s reads buffer (s + offset) mod count, so that ranks of more
/// memory than this machine has can be emulated. Right in bytes and shapes, wrong in values.
class WeightPool final : public WeightSource {
 public:
  WeightPool(const LayerShape& shape, Shard shard, int num_slots, double max_bytes,
             std::uint64_t seed, int num_threads);
  const ExpertWeights& weights(int slot, int expert) override;
  /// Where slot 0 starts: tensor-sharded ranks have the same slots, but not the same memory.
  void set_offset(int offset) noexcept { offset_ = static_cast<std::size_t>(offset); }

 private:
  std::vector<std::unique_ptr<RandomExpert>> buffers_;
  std::size_t offset_ = 0;
};

}  // namespace metro::ep
