// SPDX-License-Identifier: Apache-2.0
// A request trace of any format; what is read is in order and within its bounds.
#include <cstdlib>

#include "io/bytes.hpp"
#include "io/requests_file.hpp"
#include "metro/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = metro::io::as_text(std::as_bytes(std::span(data, size)));
  try {
    double last = 0;
    for (const metro::Request& request : metro::io::parse_requests(text, "f")) {
      if (!(request.arrival_s >= last) || request.prompt_tokens < 0 || request.output_tokens < 0) {
        std::abort();
      }
      last = request.arrival_s;
    }
  } catch (const metro::Error&) {
  }
  return 0;
}
