// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <string>

#include "io/bytes.hpp"

namespace metro::io {

/// SHA-256 (FIPS 180-4), fed piece by piece. Names files in results; not meant for secrets.
class Sha256 {
 public:
  void update(Bytes bytes) noexcept;

  /// The digest in lower-case hex; the object is spent after it.
  [[nodiscard]] std::string finish() noexcept;

 private:
  static constexpr std::size_t kBlock = 64;

  void compress(const std::byte* block) noexcept;

  std::array<std::uint32_t, 8> state_ = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                         0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, kBlock> pending_{};
  std::uint64_t total_ = 0;  ///< bytes so far; total_ % 64 of them are in pending_
};

}  // namespace metro::io
