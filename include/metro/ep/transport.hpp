// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

namespace metro::ep {

/// Collectives over host memory between the ranks of an expert-parallel layer.
///
///     transport.all_gather(own_bytes, all_bytes, bytes_per_rank);
///
/// All ranks call the same collectives in the same order; a rank with nothing to send calls them
/// too. Blocks lie in rank order, without gaps, and may be empty. Every call returns within the
/// transport's timeout: when another rank died, failed or does not answer, it throws
/// Error{kDevice} that names that rank, and the transport is of no more use. One thread per rank.
class Transport {
 public:
  Transport() = default;
  virtual ~Transport() = default;
  Transport(const Transport&) = delete;
  Transport& operator=(const Transport&) = delete;

  [[nodiscard]] virtual int rank() const noexcept = 0;
  [[nodiscard]] virtual int size() const noexcept = 0;
  [[nodiscard]] virtual std::string_view name() const noexcept = 0;

  /// Sends one block to each rank and gets one from each; the two sides agree on its bytes.
  virtual void all_to_all(std::span<const std::byte> send, std::span<const std::size_t> send_bytes,
                          std::span<std::byte> receive,
                          std::span<const std::size_t> receive_bytes) = 0;

  /// Every rank gets the blocks of all; `bytes[rank()]` is the size of `send`.
  virtual void all_gather(std::span<const std::byte> send, std::span<std::byte> receive,
                          std::span<const std::size_t> bytes) = 0;

  virtual void barrier() = 0;

  /// Every rank holds a block of `counts[r]` values for each rank r and gets the sum of the blocks
  /// for itself. Added in rank order on every transport, so one job gives the same bits everywhere.
  void reduce_scatter(std::span<const float> send, std::span<float> receive,
                      std::span<const std::size_t> counts);

 private:
  std::vector<float> blocks_;  // of reduce_scatter: [size()][counts[rank()]]
};

}  // namespace metro::ep
