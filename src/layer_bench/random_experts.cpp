// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/random_experts.hpp"

#include <algorithm>
#include <cmath>

#include "core/parallel.hpp"
#include "ep/low_precision.hpp"
#include "layer_bench/random_weights.hpp"

namespace metro::layer_bench {
namespace {

std::size_t value_bytes(DataType type) {
  return type == DataType::kFloat32 ? 4 : type == DataType::kBf16 ? 2 : 1;
}

/// A piece of a whole matrix: rows from `first_row`, columns from `first_col`.
struct Piece {
  std::uint64_t key;
  int whole_cols;
  int first_row;
  int first_col;
  int rows;
  int cols;
};

template <typename T, typename Convert>
void fill(const Piece& piece, Convert convert, T* out) {
  for (int row = 0; row < piece.rows; ++row) {
    const auto index = static_cast<std::uint64_t>(piece.first_row + row) *
                           static_cast<std::uint64_t>(piece.whole_cols) +
                       static_cast<std::uint64_t>(piece.first_col);
    for (int col = 0; col < piece.cols; ++col) {
      *out++ = convert(unit_weight(piece.key, index + static_cast<std::uint64_t>(col)));
    }
  }
}

void fill(DataType type, const Piece& piece, std::byte* out) {
  const float bound = std::sqrt(3.0F / static_cast<float>(piece.whole_cols));
  if (type == DataType::kFloat32) {
    fill(piece, [=](float unit) { return unit * bound; }, reinterpret_cast<float*>(out));
  } else if (type == DataType::kBf16) {
    fill(
        piece, [=](float unit) { return ep::to_bf16(unit * bound); },
        reinterpret_cast<std::uint16_t*>(out));
  } else {
    fill(
        piece, [](float unit) { return ep::to_e4m3(unit * 448.0F); },
        reinterpret_cast<std::uint8_t*>(out));
  }
}

std::size_t num_scales(const ep::WeightMatrix& matrix) {
  const auto blocks = [](int n) {
    return static_cast<std::size_t>((n + ep::kScaleBlock - 1) / ep::kScaleBlock);
  };
  return blocks(matrix.rows) * blocks(matrix.cols);
}

}  // namespace

RandomExpert::RandomExpert(DataType type, int hidden, int whole_width, ep::Shard shard,
                           std::uint64_t seed, std::uint32_t expert) {
  const int width = shard.width();
  view_.gate_up = {.type = type, .rows = 2 * width, .cols = hidden};
  view_.down = {.type = type, .rows = hidden, .cols = width};
  const std::size_t gate_up_bytes = view_.gate_up.size() * value_bytes(type);
  values_.resize(gate_up_bytes + view_.down.size() * value_bytes(type));

  const std::uint64_t key = weight_key(seed, expert, MatrixKind::kGateUp);
  fill(type, {key, hidden, shard.begin, 0, width, hidden}, values_.data());
  fill(type, {key, hidden, whole_width + shard.begin, 0, width, hidden},
       values_.data() + gate_up_bytes / 2);
  fill(type,
       {weight_key(seed, expert, MatrixKind::kDown), whole_width, 0, shard.begin, hidden, width},
       values_.data() + gate_up_bytes);
  view_.gate_up.values = values_.data();
  view_.down.values = values_.data() + gate_up_bytes;

  if (type == DataType::kFp8) {
    const std::size_t gate_up_scales = num_scales(view_.gate_up);
    scales_.assign(gate_up_scales, std::sqrt(3.0F / static_cast<float>(hidden)) / 448.0F);
    scales_.resize(gate_up_scales + num_scales(view_.down),
                   std::sqrt(3.0F / static_cast<float>(whole_width)) / 448.0F);
    view_.gate_up.scales = scales_.data();
    view_.down.scales = scales_.data() + gate_up_scales;
  }
}

const ep::ExpertWeights& RandomExperts::weights(int /*slot*/, int expert) {
  auto& entry = experts_[expert];
  if (!entry) {
    entry = std::make_unique<RandomExpert>(shape_.weights, shape_.hidden, shape_.intermediate,
                                           shard_, seed_, static_cast<std::uint32_t>(expert));
  }
  return entry->view();
}

RandomDense::RandomDense(const ep::LayerShape& shape, std::uint64_t seed) {
  const auto beyond = static_cast<std::uint32_t>(shape.num_experts);
  const std::uint64_t key = weight_key(seed, beyond, MatrixKind::kRouter);
  const float bound = std::sqrt(3.0F / static_cast<float>(shape.hidden));
  gate_.resize(static_cast<std::size_t>(shape.num_experts) *
               static_cast<std::size_t>(shape.hidden));
  for (std::size_t i = 0; i < gate_.size(); ++i) gate_[i] = bound * unit_weight(key, i);
  if (const int width = shape.shared_intermediate; width > 0) {
    shared_ = std::make_unique<RandomExpert>(shape.weights, shape.hidden, width,
                                             ep::Shard{0, width}, seed, beyond + 1);
  }
}

ep::DenseWeights RandomDense::view() const noexcept {
  return {.gate = gate_, .shared = shared_ ? shared_->view() : ep::ExpertWeights{}};
}

WeightPool::WeightPool(const ep::LayerShape& shape, ep::Shard shard, int num_slots,
                       double max_bytes, std::uint64_t seed, int num_threads) {
  const double each = 3.0 * shape.hidden * shard.width() * bytes_per_value(shape.weights);
  const double fit =
      std::clamp(max_bytes / std::max(each, 1.0), 1.0, static_cast<double>(num_slots));
  buffers_.resize(static_cast<std::size_t>(fit));
  for_each_parallel(buffers_.size(), num_threads, [&](std::size_t i) {
    buffers_[i] = std::make_unique<RandomExpert>(shape.weights, shape.hidden, shape.intermediate,
                                                 shard, seed, static_cast<std::uint32_t>(i));
  });
}

const ep::ExpertWeights& WeightPool::weights(int slot, int /*expert*/) {
  return buffers_[(static_cast<std::size_t>(slot) + offset_) % buffers_.size()]->view();
}

}  // namespace metro::layer_bench
