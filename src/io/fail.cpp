// SPDX-License-Identifier: Apache-2.0
#include "io/fail.hpp"

#include <fmt/format.h>

#include "metro/error.hpp"

namespace metro::io {

void fail(std::string_view file, std::string_view message) {
  throw Error(ErrorCode::kInput, fmt::format("{}: {}", file, message));
}

std::string quote(std::string_view text) {
  constexpr std::size_t kShown = 40;
  std::string out = "'";
  for (const char c : text.substr(0, kShown)) {
    if (c >= ' ' && c <= '~') {
      out += c;
    } else {
      out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
  }
  out += text.size() > kShown ? "...'" : "'";
  return out;
}

}  // namespace metro::io
