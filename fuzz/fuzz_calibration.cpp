// SPDX-License-Identifier: Apache-2.0
// A calibration that is read passes its own check, and prices a layer with finite times.
#include <cmath>
#include <cstdlib>

#include "io/bytes.hpp"
#include "io/calibration_file.hpp"
#include "metro/cost.hpp"
#include "metro/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  metro::Calibration calibration;
  try {
    calibration =
        metro::io::parse_calibration(metro::io::as_text(std::as_bytes(std::span(data, size))), "f");
  } catch (const metro::Error&) {
    return 0;
  }
  const metro::CostModel cost(*metro::find_model("Qwen3-30B-A3B"), *metro::find_gpu("h200"), {},
                              &calibration);
  if (!std::isfinite(cost.phi_us(3)) || !std::isfinite(cost.phi_us(100000))) std::abort();
  return 0;
}
