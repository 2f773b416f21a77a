// SPDX-License-Identifier: Apache-2.0
#include "io/ids.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <memory>
#include <type_traits>

#include "io/fail.hpp"
#include "metro/error.hpp"

namespace metro::io {
namespace {

/// An id is good when this is at most `good_limit`: -1, 0, 1, ... become 0, 1, 2, ... for signed
/// types.
template <typename T>
std::make_unsigned_t<T> rank_of(T id) noexcept {
  using U = std::make_unsigned_t<T>;
  return static_cast<U>(static_cast<U>(id) + (std::is_signed_v<T> ? 1U : 0U));
}

template <typename T>
std::make_unsigned_t<T> good_limit(int num_experts) noexcept {
  using U = std::make_unsigned_t<T>;
  const auto last = static_cast<std::uint64_t>(num_experts) - 1;
  const auto largest = static_cast<std::uint64_t>(std::numeric_limits<T>::max());
  return static_cast<U>(std::min(last, largest) + (std::is_signed_v<T> ? 1U : 0U));
}

template <typename T>
std::size_t first_bad(const std::byte* data, std::size_t count, int num_experts) noexcept {
  constexpr std::size_t kBlock = 4096;  // of known length, so that compilers vectorise the scan
  const auto limit = good_limit<T>(num_experts);
  const auto rank_at = [&](std::size_t i) { return rank_of(load_le<T>(data + i * sizeof(T))); };
  std::size_t start = 0;
  for (; start + kBlock <= count; start += kBlock) {
    std::make_unsigned_t<T> worst = 0;
    for (std::size_t i = start; i < start + kBlock; ++i) worst = std::max(worst, rank_at(i));
    if (worst > limit) break;
  }
  while (start < count && rank_at(start) <= limit) ++start;
  return start;
}

/// Throws Error{kInput} naming token, layer, k and value of the first id that is out of range.
void check_ids(const IdArray& ids, int num_experts, std::string_view file) {
  const std::size_t bad = first_bad_id(ids.data, ids.type, ids.count(), num_experts);
  if (bad == ids.count()) return;
  const auto topk = static_cast<std::size_t>(ids.topk);
  const std::size_t row = topk * static_cast<std::size_t>(ids.num_layers);
  fail(file, fmt::format("[{}][{}][{}] {}", bad / row, bad % row / topk, bad % topk,
                         bad_id_text(id_text(ids.data, ids.type, bad), num_experts)));
}

}  // namespace

std::size_t first_bad_id(const std::byte* data, DType type, std::size_t count,
                         int num_experts) noexcept {
  return with_type(type, [&]<typename T>(T) -> std::size_t {
    if constexpr (std::is_integral_v<T>) {
      return first_bad<T>(data, count, num_experts);
    } else {
      return 0;  // no float is an id
    }
  });
}

std::string id_text(const std::byte* data, DType type, std::size_t index) {
  return with_type(type, [&]<typename T>(T) {
    const T value = load_le<T>(data + index * sizeof(T));
    if constexpr (std::is_integral_v<T>) return std::to_string(value);
    return fmt::format("{}", value);
  });
}

std::string bad_id_text(std::string_view value, int num_experts) {
  return fmt::format("is {}, must be an expert 0..{} or -1 (masked)", value, num_experts - 1);
}

RoutingTrace view_trace(std::shared_ptr<const void> storage, const IdArray& ids, TraceInfo info,
                        std::string_view file, std::string_view info_file) {
  if (info.sequence_lengths.empty()) info.sequence_lengths = {ids.num_tokens};
  const int num_experts = info.num_experts;
  RoutingTrace trace = [&]() -> RoutingTrace {
    try {
      return {std::move(storage), ids.data,       ids.type.bytes, ids.type.kind == 'i',
              ids.num_tokens,     ids.num_layers, ids.topk,       std::move(info)};
    } catch (const Error& error) {
      fail(info_file, error.what());
    }
  }();
  check_ids(ids, num_experts, file);
  return trace;
}

RoutingTrace own_trace(std::vector<std::byte> storage, IdArray ids, TraceInfo info,
                       std::string_view file) {
  const auto owner = std::make_shared<const std::vector<std::byte>>(std::move(storage));
  ids.data = owner->data();
  return view_trace(owner, ids, std::move(info), file, file);
}

}  // namespace metro::io
