// SPDX-License-Identifier: Apache-2.0
#include "io/dtype.hpp"

namespace metro::io {

std::optional<DType> parse_dtype(std::string_view text) noexcept {
  if (text.size() != 3) return std::nullopt;
  const DType type{text[1], text[2] - '0'};
  const bool one_byte = type.bytes == 1;
  if (text[0] != '<' && !(text[0] == '|' && one_byte)) return std::nullopt;
  const bool wide = type.bytes == 4 || type.bytes == 8;
  const bool is_integer = type.kind == 'u' || type.kind == 'i';
  if (is_integer && (one_byte || type.bytes == 2 || wide)) return type;
  if (type.kind == 'f' && wide) return type;
  return std::nullopt;
}

}  // namespace metro::io
