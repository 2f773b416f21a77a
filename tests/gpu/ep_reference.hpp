// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/rng.hpp"
#include "cuda/device_memory.hpp"
#include "ep/cuda/layer_cuda.hpp"
#include "ep/gate.hpp"
#include "ep/low_precision.hpp"
#include "layer_bench/cuda/random_experts.hpp"
#include "layer_bench/random_experts.hpp"
#include "layer_bench/random_weights.hpp"
#include "metro/ep/layer_config.hpp"

namespace metro::test {

inline std::size_t at(int index) { return static_cast<std::size_t>(index); }

inline std::vector<float> read_bf16(const __nv_bfloat16* from, std::size_t count) {
  std::vector<std::uint16_t> bits(count);
  METRO_CUDA_CHECK(cudaMemcpy(bits.data(), from, count * 2, cudaMemcpyDeviceToHost));
  std::vector<float> values;
  for (const std::uint16_t value : bits) values.push_back(ep::from_bf16(value));
  return values;
}

inline void write_bf16(__nv_bfloat16* to, const std::vector<float>& values) {
  std::vector<std::uint16_t> bits;
  for (const float value : values) {
    bits.push_back(std::isnan(value) ? std::uint16_t{0x7fff} : ep::to_bf16(value));
  }
  METRO_CUDA_CHECK(cudaMemcpy(to, bits.data(), bits.size() * 2, cudaMemcpyHostToDevice));
}

/// ||got - expected|| / ||expected||; NaN where a value is.
inline double relative_error(std::span<const float> got, std::span<const double> expected) {
  double error = 0;
  double norm = 1e-30;
  for (std::size_t i = 0; i < got.size(); ++i) {
    error += std::pow(double{got[i]} - expected[i], 2);
    norm += std::pow(expected[i], 2);
  }
  return std::sqrt(error / norm);
}

/// One MoE layer read off its definition, on the host, in double; no placement, no ranks.
class ReferenceLayer {
 public:
  static constexpr std::uint64_t kSeed = 11;

  explicit ReferenceLayer(const ep::LayerShape& shape) : shape_(shape), chooser_(shape) {
    using layer_bench::MatrixKind;
    const auto beyond = static_cast<std::uint32_t>(shape.num_experts);
    const int hidden = shape.hidden;
    const int width = shape.shared_intermediate;
    const auto make = [&](int rows, int cols, MatrixKind kind, std::vector<float>& host) {
      device_.push_back(layer_bench::cuda::random_matrix(
          rows, cols, layer_bench::weight_key(kSeed, beyond, kind)));
      host = read_bf16(device_.back().get(), at(rows) * at(cols));
      return device_.back().get();
    };
    dense_.gate = make(shape.num_experts, hidden, MatrixKind::kRouter, gate_);
    if (width > 0) {
      dense_.shared_gate_up = make(2 * width, hidden, MatrixKind::kGateUp, shared_gate_up_);
      dense_.shared_down = make(hidden, width, MatrixKind::kDown, shared_down_);
    }
    for (int expert = 0; expert < shape.num_experts; ++expert) {
      experts_.push_back(std::make_unique<layer_bench::RandomExpert>(
          shape.weights, hidden, shape.intermediate, ep::Shard{0, shape.intermediate}, kSeed,
          static_cast<std::uint32_t>(expert)));
    }
  }

  [[nodiscard]] const ep::cuda::DenseWeights& dense() const { return dense_; }

  /// The layer's output for one token.
  std::vector<double> forward(std::span<const float> x) {
    const std::vector<double> logits = multiply(gate_, x, shape_.num_experts);
    const std::vector<float> rounded(logits.begin(), logits.end());
    std::vector<std::int32_t> ids(at(shape_.topk));
    std::vector<float> weights(ids.size());
    chooser_.choose(rounded, ids, weights);
    std::vector<double> out(at(shape_.hidden));
    for (std::size_t k = 0; k < ids.size(); ++k) {
      const ep::ExpertWeights& expert = experts_[at(ids[k])]->view();
      add(swiglu(values(expert.gate_up), values(expert.down), x), double{weights[k]}, out);
    }
    if (shape_.shared_intermediate > 0) add(swiglu(shared_gate_up_, shared_down_, x), 1, out);
    return out;
  }

 private:
  static void add(const std::vector<double>& values, double weight, std::vector<double>& out) {
    for (std::size_t i = 0; i < out.size(); ++i) out[i] += weight * values[i];
  }
  template <typename T>
  static std::vector<double> multiply(const std::vector<float>& matrix, const T& x, int rows) {
    std::vector<double> y(at(rows));
    for (std::size_t r = 0; r < y.size(); ++r) {
      for (std::size_t c = 0; c < x.size(); ++c) {
        y[r] += double{matrix[r * x.size() + c]} * static_cast<double>(x[c]);
      }
    }
    return y;
  }
  std::vector<double> swiglu(const std::vector<float>& gate_up, const std::vector<float>& down,
                             std::span<const float> x) const {
    const int width = static_cast<int>(gate_up.size() / x.size() / 2);
    const std::vector<double> both = multiply(gate_up, x, 2 * width);
    std::vector<double> inner(at(width));
    for (std::size_t i = 0; i < inner.size(); ++i) {
      inner[i] = both[i] / (1 + std::exp(-both[i])) * both[i + inner.size()];
    }
    return multiply(down, inner, shape_.hidden);
  }
  static std::vector<float> values(const ep::WeightMatrix& matrix) {
    std::vector<float> all(matrix.size());
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (matrix.type == DataType::kFp8) {  // all scales of a random matrix are one
        all[i] =
            ep::from_e4m3(static_cast<const std::uint8_t*>(matrix.values)[i]) * matrix.scales[0];
      } else {
        all[i] = ep::from_bf16(static_cast<const std::uint16_t*>(matrix.values)[i]);
      }
    }
    return all;
  }

  ep::LayerShape shape_;
  ep::TopkChooser chooser_;
  std::vector<cuda::DeviceArray<__nv_bfloat16>> device_;
  ep::cuda::DenseWeights dense_;
  std::vector<float> gate_;
  std::vector<float> shared_gate_up_;
  std::vector<float> shared_down_;
  std::vector<std::unique_ptr<layer_bench::RandomExpert>> experts_;
};

/// Tokens of all ranks with what the layer is to make of them.
struct LayerBatch {
  LayerBatch(ReferenceLayer& reference, const ep::LayerShape& shape, int tokens_per_rank,
             std::vector<std::int32_t> counts_of_ranks, Rng& rng)
      : max_tokens(tokens_per_rank), hidden(shape.hidden), counts(std::move(counts_of_ranks)) {
    for (const std::int32_t count : counts) {
      x.emplace_back(at(max_tokens) * at(hidden), std::nanf(""));  // padding must reach nothing
      expected.emplace_back(x.back().size(), 0.0);
      for (int token = 0; token < count; ++token) {
        const auto row = std::span(x.back()).subspan(at(token) * at(hidden), at(hidden));
        for (float& value : row) {
          value = ep::from_bf16(ep::to_bf16(static_cast<float>(3 * rng.uniform() - 1.5)));
        }
        const std::vector<double> y = reference.forward(row);
        std::copy(y.begin(), y.end(),
                  expected.back().begin() + static_cast<std::ptrdiff_t>(at(token) * at(hidden)));
      }
    }
  }
  int max_tokens;
  int hidden;
  std::vector<std::int32_t> counts;           // [ranks]
  std::vector<std::vector<float>> x;          // [ranks][max_tokens * hidden]
  std::vector<std::vector<double>> expected;  // [ranks][max_tokens * hidden]
};

/// Device arrays of one rank's steps.
class RankArrays {
 public:
  RankArrays(int max_tokens, int hidden)
      : size_(at(max_tokens) * at(hidden)),
        x_(cuda::make_device_array<__nv_bfloat16>(size_)),
        out_(cuda::make_device_array<__nv_bfloat16>(size_)),
        count_(cuda::make_device_array<std::int32_t>(1)) {}

  void set(const LayerBatch& batch, int rank) {
    write_bf16(x_.get(), batch.x[at(rank)]);
    write_bf16(out_.get(), std::vector<float>(size_, std::nanf("")));
    METRO_CUDA_CHECK(cudaMemcpy(count_.get(), &batch.counts[at(rank)], sizeof(std::int32_t),
                                cudaMemcpyHostToDevice));
  }
  [[nodiscard]] ep::cuda::LayerStep step() const {
    return {.x = x_.get(), .num_tokens = count_.get(), .out = out_.get(), .forced_ids = nullptr};
  }
  [[nodiscard]] std::vector<float> read() const { return read_bf16(out_.get(), size_); }

 private:
  std::size_t size_;
  cuda::DeviceArray<__nv_bfloat16> x_;
  cuda::DeviceArray<__nv_bfloat16> out_;
  cuda::DeviceArray<std::int32_t> count_;
};

/// The weights of a rank's slots under a placement, from one copy of all experts.
inline std::vector<ep::cuda::ExpertPointers> local_pointers(
    const LayerPlacement& placement, const layer_bench::cuda::RandomGpuExperts& experts, int rank) {
  std::vector<ep::cuda::ExpertPointers> pointers;
  for (std::size_t slot = 0; slot < placement.replica_to_gpu.size(); ++slot) {
    if (placement.replica_to_gpu[slot] == rank) {
      pointers.push_back(experts[at(placement.replica_to_expert[slot])]);
    }
  }
  return pointers;
}

}  // namespace metro::test
