// SPDX-License-Identifier: Apache-2.0
// GPUs, engines and kernels: any text is refused or read, and a GPU that is read is found again.
#include <cstdlib>

#include "io/bytes.hpp"
#include "io/constants_file.hpp"
#include "metro/error.hpp"

namespace {

template <typename Parse>
void parse(Parse parse) {
  try {
    parse();
  } catch (const metro::Error&) {
    // refused
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const auto text = metro::io::as_text(std::as_bytes(std::span(data, size)));
  parse([&] {
    const metro::GpuList list = metro::io::parse_gpus(text, "f");
    for (const auto& gpu : list.gpus) {
      if (list.find(gpu.spec.name) != &gpu.spec) std::abort();
      if (!(gpu.spec.flops(metro::DataType::kFp4) > 0)) std::abort();
    }
  });
  parse([&] {
    if (metro::io::parse_engines(text, "f").engines.empty()) std::abort();
  });
  parse([&] {
    if (metro::io::parse_kernels(text, "f").collectives.empty()) std::abort();
  });
  return 0;
}
