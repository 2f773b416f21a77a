// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "ep/token_targets.hpp"
#include "metro/ep/transport.hpp"

namespace metro::ep {

/// Takes a rank's tokens to the GPUs that serve them, and what was computed there back: both ways
/// of all-to-all dispatch. Owns its buffers, which grow with the largest step.
class TokenExchange {
 public:
  TokenExchange(int hidden, int topk, Transport& transport);

  /// Tokens with their replicas and weights, row-major.
  struct Rows {
    std::span<const float> x;                   ///< [rows][hidden]
    std::span<const std::int32_t> replica_ids;  ///< [rows][topk]
    std::span<const float> weights;             ///< [rows][topk]
  };

  /// Sends each row once to every GPU of `targets`, and gets those that this rank serves, by
  /// source rank, then row. The view stays valid until the next call.
  Rows dispatch(const TokenTargets& targets, const Rows& rows);

  /// Sends a row of results for every row that `dispatch` brought; gets one for every row that it
  /// sent, by rank, then row.
  std::span<const float> give_back(std::span<const float> results);

 private:
  void pack(const TokenTargets& targets, const Rows& rows);
  Rows unpack();

  [[nodiscard]] std::size_t row_bytes() const noexcept {
    return hidden_ * sizeof(float) + topk_ * (sizeof(std::int32_t) + sizeof(float));
  }

  std::size_t hidden_;
  std::size_t topk_;
  Transport& transport_;
  std::vector<std::size_t> sent_;      // [ranks] rows
  std::vector<std::size_t> received_;  // [ranks] rows
  std::vector<std::byte> send_;
  std::vector<std::byte> receive_;
  std::vector<float> x_;
  std::vector<std::int32_t> replica_ids_;
  std::vector<float> weights_;
  std::vector<float> returned_;
};

}  // namespace metro::ep
