// SPDX-License-Identifier: Apache-2.0
// Rows of a `bench layer` result are within the limits that the prediction relies on.
#include <cstdlib>

#include "io/bytes.hpp"
#include "io/layer_result.hpp"
#include "metro/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    const metro::LayerTimings timings = metro::io::parse_layer_result(
        metro::io::as_text(std::as_bytes(std::span(data, size))), "f");
    for (const metro::LayerTiming& row : timings.rows) {
      if (row.gpus < 1 || row.tokens_per_gpu < 1 || !(row.layer_us > 0)) std::abort();
    }
  } catch (const metro::Error&) {
  }
  return 0;
}
