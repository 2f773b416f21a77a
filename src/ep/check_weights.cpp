// SPDX-License-Identifier: Apache-2.0
#include "ep/check_weights.hpp"

#include <fmt/format.h>

#include <cstdint>

#include "metro/error.hpp"
#include "metro/model.hpp"

namespace metro::ep {
namespace {

[[noreturn]] void fail(const std::string& message) { throw Error(ErrorCode::kInput, message); }

void check_matrix(std::string_view what, std::string_view field, const WeightMatrix& matrix,
                  int rows, int cols, DataType type) {
  if (matrix.rows != rows || matrix.cols != cols) {
    fail(fmt::format("{}: {} is {} x {}, must be {} x {}", what, field, matrix.rows, matrix.cols,
                     rows, cols));
  }
  if (matrix.type != type) {
    fail(fmt::format("{}: {} is {}, the layer's are {}", what, field, data_type_name(matrix.type),
                     data_type_name(type)));
  }
  if (matrix.size() == 0) return;
  if (matrix.values == nullptr) fail(fmt::format("{}: {} has no values", what, field));
  if (type == DataType::kFp8 && matrix.scales == nullptr) {
    fail(fmt::format("{}: {} is fp8 and has no scales", what, field));
  }
}

}  // namespace

Shard shard_of(int intermediate, int rank, int num_ranks) noexcept {
  const auto at = [&](int r) {
    return static_cast<int>(std::int64_t{intermediate} * r / num_ranks);
  };
  return {at(rank), at(rank + 1)};
}

void check_expert(std::string_view what, const ExpertWeights& expert, const LayerShape& shape,
                  int width) {
  check_matrix(what, "gate_up", expert.gate_up, 2 * width, shape.hidden, shape.weights);
  check_matrix(what, "down", expert.down, shape.hidden, width, shape.weights);
}

void check_dense(const DenseWeights& weights, const LayerShape& shape) {
  const std::size_t expected =
      static_cast<std::size_t>(shape.num_experts) * static_cast<std::size_t>(shape.hidden);
  if (weights.gate.size() != expected) {
    fail(fmt::format("gate has {} weights, must be {}, {} experts x {}", weights.gate.size(),
                     expected, shape.num_experts, shape.hidden));
  }
  if (shape.shared_intermediate > 0) {
    check_expert("shared expert", weights.shared, shape, shape.shared_intermediate);
  }
}

}  // namespace metro::ep
