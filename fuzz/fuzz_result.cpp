// SPDX-License-Identifier: Apache-2.0
// A result that is read makes a page or is refused, whatever its command's fields are.
#include "io/bytes.hpp"
#include "io/result_file.hpp"
#include "metro/error.hpp"
#include "report/report_page.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  try {
    metro::report::report_page(
        {{"f",
          metro::io::parse_result(metro::io::as_text(std::as_bytes(std::span(data, size))), "f")}});
  } catch (const metro::Error&) {
  }
  return 0;
}
