// SPDX-License-Identifier: Apache-2.0
#include "serving/disaggregation.hpp"

#include <fmt/format.h>

#include <charconv>
#include <cstdint>

#include "metro/error.hpp"
#include "metro/placement.hpp"

namespace metro::serving {
namespace {

std::optional<int> parse_gpus(std::string_view text) noexcept {
  int value = 0;
  const char* const end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, value);
  if (error != std::errc() || stop != end || value < 1 || value > kMaxGpus) return std::nullopt;
  return value;
}

}  // namespace

std::optional<std::pair<int, int>> parse_ratio(std::string_view text) noexcept {
  const std::size_t colon = text.find(':');
  if (colon == std::string_view::npos) return std::nullopt;
  const std::optional<int> prefill = parse_gpus(text.substr(0, colon));
  const std::optional<int> decode = parse_gpus(text.substr(colon + 1));
  if (!prefill || !decode) return std::nullopt;
  return std::pair(*prefill, *decode);
}

int prefill_gpus(std::string_view name, std::string_view text, int gpus) {
  const auto ratio = parse_ratio(text);
  if (!ratio) {
    throw Error(ErrorCode::kUsage, fmt::format("{} is '{}', must be P:D such as 2:6", name, text));
  }
  const int sum = ratio->first + ratio->second;
  const std::int64_t share = std::int64_t{gpus} * ratio->first;
  if (share % sum != 0) {
    throw Error(
        ErrorCode::kUsage,
        fmt::format("{} is '{}', which does not share out {} GPUs evenly", name, text, gpus));
  }
  return static_cast<int>(share / sum);
}

}  // namespace metro::serving
