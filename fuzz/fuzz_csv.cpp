// SPDX-License-Identifier: Apache-2.0
// A CSV dump; the first two bytes are the layers and topk that the user gives.
#include "io/parse.hpp"
#include "metro/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const metro::io::CsvLayout layout{data[0] % 8, data[1] % 8};
  const auto text = metro::io::as_text(std::as_bytes(std::span(data + 2, size - 2)));
  try {
    metro::io::parse_csv_trace(text, layout, {300, "", "decode", {}, "", ""}, "f").validate_ids();
  } catch (const metro::Error&) {
  }
  return 0;
}
