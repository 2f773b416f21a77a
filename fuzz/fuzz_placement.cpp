// SPDX-License-Identifier: Apache-2.0
// A placement that is read is written and read back the same.
#include <cstdlib>

#include "io/parse.hpp"
#include "metro/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  metro::Placement placement;
  try {
    placement =
        metro::io::parse_placement(metro::io::as_text(std::as_bytes(std::span(data, size))), "f");
  } catch (const metro::Error&) {
    return 0;
  }
  if (metro::io::parse_placement(metro::io::format_placement(placement), "f") != placement) {
    std::abort();
  }
  return 0;
}
