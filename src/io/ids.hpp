// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "io/bytes.hpp"
#include "io/dtype.hpp"
#include "metro/trace.hpp"

namespace metro::io {

/// Where a trace's ids lie: packed little-endian integers in C order [tokens][layers][topk].
struct IdArray {
  const std::byte* data = nullptr;
  DType type;
  std::int64_t num_tokens = 0;
  int num_layers = 0;
  int topk = 0;

  [[nodiscard]] std::size_t count() const noexcept {
    return static_cast<std::size_t>(num_tokens) * static_cast<std::size_t>(num_layers) *
           static_cast<std::size_t>(topk);
  }
};

/// Index of the first of `count` ids that is neither -1 nor in 0..num_experts-1; `count` if none.
std::size_t first_bad_id(const std::byte* data, DType type, std::size_t count,
                         int num_experts) noexcept;

/// The exact value of one id, for messages.
std::string id_text(const std::byte* data, DType type, std::size_t index);

/// "is 99, must be an expert 0..63 or -1 (masked)".
std::string bad_id_text(std::string_view value, int num_experts);

/// A trace over `ids`, which `storage` keeps alive. Throws Error{kInput}: `file` is at fault for
/// the first id that is out of range, `info_file` for what does not fit the array. Without
/// sequence_lengths all tokens are one sequence.
RoutingTrace view_trace(std::shared_ptr<const void> storage, const IdArray& ids, TraceInfo info,
                        std::string_view file, std::string_view info_file);

/// As view_trace, with the ids packed in a vector.
RoutingTrace own_trace(std::vector<std::byte> storage, IdArray ids, TraceInfo info,
                       std::string_view file);

}  // namespace metro::io
