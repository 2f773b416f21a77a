// SPDX-License-Identifier: Apache-2.0
#include "metro/ep/transport.hpp"

#include <algorithm>

namespace metro::ep {

void Transport::reduce_scatter(std::span<const float> send, std::span<float> receive,
                               std::span<const std::size_t> counts) {
  const auto ranks = static_cast<std::size_t>(size());
  const std::size_t own = counts[static_cast<std::size_t>(rank())];
  std::vector<std::size_t> send_bytes(ranks);
  std::ranges::transform(counts, send_bytes.begin(),
                         [](std::size_t n) { return n * sizeof(float); });
  const std::vector<std::size_t> receive_bytes(ranks, own * sizeof(float));
  blocks_.resize(ranks * own);
  // As many bytes as a library's reduce-scatter, whose order of adding is its own.
  all_to_all(std::as_bytes(send), send_bytes, std::as_writable_bytes(std::span(blocks_)),
             receive_bytes);
  std::copy_n(blocks_.begin(), own, receive.begin());
  for (std::size_t r = 1; r < ranks; ++r) {
    const float* block = blocks_.data() + r * own;
    for (std::size_t i = 0; i < own; ++i) receive[i] += block[i];
  }
}

}  // namespace metro::ep
