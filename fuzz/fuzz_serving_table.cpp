// SPDX-License-Identifier: Apache-2.0
// Rows of a table of serving points are within the limits that the estimate relies on.
#include <cstdlib>

#include "io/bytes.hpp"
#include "io/serving_table.hpp"
#include "metro/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    for (const metro::ServingPoint& point : metro::io::parse_serving_table(
             metro::io::as_text(std::as_bytes(std::span(data, size))), "f")) {
      if (point.input_tokens < 1 || point.gpus < 1 || !(point.tpot_ms > 0)) std::abort();
    }
  } catch (const metro::Error&) {
  }
  return 0;
}
