// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <utility>
#include <vector>

#include "metro/trace.hpp"
#include "metro/trace_generator.hpp"

namespace metro::test {

/// A trace of one layer, [tokens][topk].
inline RoutingTrace one_layer(const std::vector<std::vector<std::uint16_t>>& tokens,
                              int num_experts, std::vector<std::int64_t> sequence_lengths) {
  std::vector<std::uint16_t> ids;
  for (const auto& token : tokens) ids.insert(ids.end(), token.begin(), token.end());
  TraceInfo info;
  info.num_experts = num_experts;
  info.phase = "decode";
  info.sequence_lengths = std::move(sequence_lengths);
  return make_trace(std::move(ids), static_cast<std::int64_t>(tokens.size()), 1,
                    static_cast<int>(tokens.front().size()), std::move(info));
}

inline RoutingTrace from_profile(const char* name, std::int64_t tokens, std::uint64_t seed) {
  return generate_trace(find_router_profile(name)->model, equal_sequences(tokens, 64), "decode",
                        seed);
}

inline std::vector<std::int32_t> all_ids(const RoutingTrace& trace) {
  std::vector<std::int32_t> ids;
  for (std::int64_t token = 0; token < trace.num_tokens(); ++token) {
    for (int layer = 0; layer < trace.num_layers(); ++layer) {
      for (int k = 0; k < trace.topk(); ++k) ids.push_back(trace.id(token, layer, k));
    }
  }
  return ids;
}

}  // namespace metro::test
