// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>

namespace metro::io {

/// Nanoseconds since 1970 of "2023-11-16 18:15:46.6805900": a date, a blank or 'T', a time of day
/// with up to nine digits of fraction, then nothing (UTC), "Z" or an offset such as "+01:00".
/// Nothing for any other text and for years outside 1970..2199.
std::optional<std::int64_t> parse_timestamp(std::string_view text);

}  // namespace metro::io
