// SPDX-License-Identifier: Apache-2.0
// A sweep's journal; what is kept of it is read alike a second time.
#include <cstdlib>

#include "io/bytes.hpp"
#include "io/journal.hpp"
#include "metro/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = metro::io::as_text(std::as_bytes(std::span(data, size)));
  try {
    const auto once = metro::io::parse_journal(text, "metro-sweep", 2, "f");
    const auto again = metro::io::parse_journal(text.substr(0, once.end), "metro-sweep", 2, "f");
    if (once.end > size || again.end != once.end || again.entries != once.entries) std::abort();
  } catch (const metro::Error&) {
  }
  return 0;
}
