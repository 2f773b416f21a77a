// SPDX-License-Identifier: Apache-2.0
// The .npy reader alone: any bytes give an array that lies inside them, or an Error.
#include <cstdlib>

#include "io/npy.hpp"
#include "metro/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto bytes = std::as_bytes(std::span(data, size));
  try {
    const metro::io::NpyArray array = metro::io::parse_npy(bytes, "f");
    const std::size_t data_bytes = array.count * static_cast<std::size_t>(array.type.bytes);
    const auto start = static_cast<std::size_t>(array.data - bytes.data());
    if (start + data_bytes != size) std::abort();
  } catch (const metro::Error&) {
  }
  return 0;
}
