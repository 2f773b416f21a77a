// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>

#include "io/parse.hpp"
#include "metro/error.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  constexpr int kNumExperts = 300;
  metro::TopkBatch batch;
  try {
    batch = metro::io::parse_topk(std::as_bytes(std::span(data, size)), kNumExperts, "f");
  } catch (const metro::Error&) {
    return 0;
  }
  try {
    batch.validate(kNumExperts);
  } catch (const metro::Error&) {
    std::abort();  // the reader let through what the core refuses
  }
  return 0;
}
