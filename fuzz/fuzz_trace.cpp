// SPDX-License-Identifier: Apache-2.0
// A trace: the input is its .npy and its sidecar, with the length of the .npy (2 bytes) before.
#include <algorithm>
#include <cstdlib>

#include "io/parse.hpp"
#include "metro/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const auto bytes = std::as_bytes(std::span(data, size));
  const std::size_t array_bytes = std::min(data[0] + std::size_t{256} * data[1], size - 2);
  const auto array = bytes.subspan(2, array_bytes);
  const auto sidecar = metro::io::as_text(bytes.subspan(2 + array_bytes));
  try {
    const metro::RoutingTrace trace = metro::io::parse_trace(
        nullptr, array, "f.npy", [&] { return metro::io::NamedText{sidecar, "f.json"}; });
    trace.validate_ids();  // the slow check must agree with the reader's
    if (trace.loads(0, trace.num_tokens()).num_experts != trace.num_experts()) std::abort();
  } catch (const metro::Error& error) {
    if (std::string_view(error.what()).substr(0, 2) != "f.") std::abort();  // names its file
  }
  return 0;
}
