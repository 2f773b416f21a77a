// SPDX-License-Identifier: Apache-2.0
#include "io/parse.hpp"
#include "metro/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    metro::io::parse_loads(std::as_bytes(std::span(data, size)), "f").validate();
  } catch (const metro::Error&) {
  }
  return 0;
}
