// SPDX-License-Identifier: Apache-2.0
#include "metro/trace.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "metro/error.hpp"
#include "metro/placement.hpp"
#include "metro/topk.hpp"

namespace metro {
namespace {

/// Little-endian integer of `bytes` bytes at `at`, as stored.
std::uint64_t load_le(const std::byte* at, int bytes) noexcept {
  if constexpr (std::endian::native == std::endian::little) {
    std::uint64_t value = 0;
    std::memcpy(&value, at, static_cast<std::size_t>(bytes));
    return value;
  }
  std::uint64_t value = 0;
  for (int i = 0; i < bytes; ++i) {
    value |= static_cast<std::uint64_t>(std::to_integer<unsigned>(at[i])) << (8 * i);
  }
  return value;
}

std::int32_t to_id(std::uint64_t raw, int bytes, bool is_signed) noexcept {
  constexpr std::int64_t kMax = std::numeric_limits<std::int32_t>::max();
  constexpr std::int64_t kMin = std::numeric_limits<std::int32_t>::min();
  if (is_signed) {
    const int shift = 64 - 8 * bytes;
    const auto value = static_cast<std::int64_t>(raw << shift) >> shift;
    return static_cast<std::int32_t>(std::clamp(value, kMin, kMax));
  }
  return static_cast<std::int32_t>(std::min(raw, static_cast<std::uint64_t>(kMax)));
}

}  // namespace

RoutingTrace::RoutingTrace(std::shared_ptr<const void> storage, const std::byte* data,
                           int bytes_per_id, bool is_signed, std::int64_t num_tokens,
                           int num_layers, int topk, TraceInfo info)
    : storage_(std::move(storage)),
      data_(data),
      bytes_per_id_(bytes_per_id),
      is_signed_(is_signed),
      num_tokens_(num_tokens),
      num_layers_(num_layers),
      topk_(topk),
      info_(std::move(info)) {
  if (num_tokens < 1 || num_layers < 1 || topk < 1) {
    throw Error(ErrorCode::kInput, fmt::format("shape is [{}, {}, {}], each must be at least 1",
                                               num_tokens, num_layers, topk));
  }
  if (bytes_per_id != 1 && bytes_per_id != 2 && bytes_per_id != 4 && bytes_per_id != 8) {
    throw Error(ErrorCode::kInput,
                fmt::format("ids of {} bytes, must be 1, 2, 4 or 8", bytes_per_id));
  }
  if (info_.num_experts < 1 || info_.num_experts > kMaxExperts) {
    throw Error(ErrorCode::kInput,
                fmt::format("num_experts is {}, must be 1..{}", info_.num_experts, kMaxExperts));
  }
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < info_.sequence_lengths.size(); ++i) {
    const std::int64_t length = info_.sequence_lengths[i];
    if (length < 1 || length > num_tokens - sum) {
      throw Error(ErrorCode::kInput,
                  fmt::format("sequence_lengths[{}] is {}, must be 1..{} (the trace has {} tokens)",
                              i, length, num_tokens - sum, num_tokens));
    }
    sum += length;
  }
  if (sum != num_tokens) {
    throw Error(
        ErrorCode::kInput,
        fmt::format("sequence_lengths sum to {}, the trace has {} tokens", sum, num_tokens));
  }
}

std::int32_t RoutingTrace::id(std::int64_t token, int layer, int k) const noexcept {
  const std::int64_t index = (token * num_layers_ + layer) * topk_ + k;
  return to_id(load_le(data_ + index * bytes_per_id_, bytes_per_id_), bytes_per_id_, is_signed_);
}

void RoutingTrace::gather(std::span<const std::int64_t> rows, int layer,
                          std::span<std::int32_t> out) const noexcept {
  std::size_t next = 0;
  for (const std::int64_t row : rows) {
    for (int k = 0; k < topk_; ++k) out[next++] = id(row, layer, k);
  }
}

Loads RoutingTrace::loads(std::int64_t begin, std::int64_t end) const {
  Loads loads{num_layers_, num_experts(), {}};
  const auto width = static_cast<std::size_t>(num_experts());
  loads.tokens.assign(static_cast<std::size_t>(num_layers_) * width, 0.0);
  for (std::int64_t token = begin; token < end; ++token) {
    for (int layer = 0; layer < num_layers_; ++layer) {
      for (int k = 0; k < topk_; ++k) {
        const std::int32_t expert = id(token, layer, k);
        if (expert < 0) continue;
        loads.tokens[static_cast<std::size_t>(layer) * width + static_cast<std::size_t>(expert)] +=
            1;
      }
    }
  }
  return loads;
}

void RoutingTrace::validate_ids() const {
  for (std::int64_t token = 0; token < num_tokens_; ++token) {
    for (int layer = 0; layer < num_layers_; ++layer) {
      for (int k = 0; k < topk_; ++k) {
        const std::int32_t expert = id(token, layer, k);
        if (expert < kMasked || expert >= num_experts()) {
          throw Error(ErrorCode::kInput,
                      fmt::format("[{}][{}][{}] is {}, must be an expert 0..{} or -1 (masked)",
                                  token, layer, k, expert, num_experts() - 1));
        }
      }
    }
  }
}

RoutingTrace make_trace(std::vector<std::uint16_t> ids, std::int64_t num_tokens, int num_layers,
                        int topk, TraceInfo info) {
  const std::size_t expected = static_cast<std::size_t>(num_tokens) *
                               static_cast<std::size_t>(num_layers) *
                               static_cast<std::size_t>(topk);
  if (ids.size() != expected) {
    throw Error(ErrorCode::kInput, fmt::format("{} ids, must be {} tokens x {} layers x {}",
                                               ids.size(), num_tokens, num_layers, topk));
  }
  auto storage = std::make_shared<const std::vector<std::uint16_t>>(std::move(ids));
  const auto* data = reinterpret_cast<const std::byte*>(storage->data());
  return {storage, data, 2, false, num_tokens, num_layers, topk, std::move(info)};
}

}  // namespace metro
