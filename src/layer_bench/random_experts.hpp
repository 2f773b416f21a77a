// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <vector>

#include "metro/ep/layer_config.hpp"
#include "metro/ep/weights.hpp"

namespace metro::layer_bench {

/// Random weights of one expert, or of a shard of it (random_weights.hpp); owns them.
class RandomExpert {
 public:
  /// `whole_width` is the intermediate width of the whole expert.
  RandomExpert(DataType type, int hidden, int whole_width, ep::Shard shard, std::uint64_t seed,
               std::uint32_t expert);
  RandomExpert(const RandomExpert&) = delete;
  RandomExpert& operator=(const RandomExpert&) = delete;

  [[nodiscard]] const ep::ExpertWeights& view() const noexcept { return view_; }

 private:
  std::vector<std::byte> values_;
  std::vector<float> scales_;
  ep::ExpertWeights view_;
};

/// Every expert's own weights, made when first asked for: what a placement can change to costs
/// nothing before it does. One thread at a time.
class RandomExperts final : public ep::WeightSource {
 public:
  RandomExperts(const ep::LayerShape& shape, ep::Shard shard, std::uint64_t seed)
      : shape_(shape), shard_(shard), seed_(seed) {}
  const ep::ExpertWeights& weights(int slot, int expert) override;

 private:
  ep::LayerShape shape_;
  ep::Shard shard_;
  std::uint64_t seed_;
  std::map<int, std::unique_ptr<RandomExpert>> experts_;
};

/// A layer's random gate and shared expert; owns them. The shared expert's stream of random numbers
/// stands after the gate's, and the gate's after those of the routed experts.
class RandomDense {
 public:
  RandomDense(const ep::LayerShape& shape, std::uint64_t seed);

  /// Valid as long as this.
  [[nodiscard]] ep::DenseWeights view() const noexcept;

 private:
  std::vector<float> gate_;
  std::unique_ptr<RandomExpert> shared_;  // none where the layer has none
};

/// A bounded pool for timing: slot s reads buffer (s + offset) mod count, so that ranks of more
/// memory than this machine has can be emulated. Right in bytes and shapes, wrong in values.
class WeightPool final : public ep::WeightSource {
 public:
  WeightPool(const ep::LayerShape& shape, ep::Shard shard, int num_slots, double max_bytes,
             std::uint64_t seed, int num_threads);
  const ep::ExpertWeights& weights(int slot, int expert) override;
  /// Where slot 0 starts: moe-TP ranks have the same slots, but not the same memory.
  void set_offset(int offset) noexcept { offset_ = static_cast<std::size_t>(offset); }

 private:
  std::vector<std::unique_ptr<RandomExpert>> buffers_;
  std::size_t offset_ = 0;
};

}  // namespace metro::layer_bench
