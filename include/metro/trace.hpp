// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "metro/loads.hpp"

namespace metro {

/// What a trace's `.json` says of it.
struct TraceInfo {
  int num_experts = 0;
  std::string model;
  std::string phase;  ///< "decode", "prefill" or "mixed"
  std::vector<std::int64_t>
      sequence_lengths;  ///< tokens are concatenated sequences; sums to tokens
  std::string source;
  std::string licence;
};

/// A routing trace: the experts that each token chose in each MoE layer.
///
/// A view over little-endian integers, C order [tokens][layers][topk]; `storage` keeps the bytes
/// alive (a file mapping, or a vector). Reading it makes no copy. Immutable: any number of threads.
class RoutingTrace {
 public:
  /// `bytes_per_id` is 1, 2, 4 or 8. Throws Error{kInput} when the sizes do not agree.
  RoutingTrace(std::shared_ptr<const void> storage, const std::byte* data, int bytes_per_id,
               bool is_signed, std::int64_t num_tokens, int num_layers, int topk, TraceInfo info);

  [[nodiscard]] std::int64_t num_tokens() const noexcept { return num_tokens_; }
  [[nodiscard]] int num_layers() const noexcept { return num_layers_; }
  [[nodiscard]] int topk() const noexcept { return topk_; }
  [[nodiscard]] int num_experts() const noexcept { return info_.num_experts; }
  [[nodiscard]] const TraceInfo& info() const noexcept { return info_; }

  /// The ids as they are stored: where they begin, perhaps not aligned, and of which type.
  [[nodiscard]] const std::byte* data() const noexcept { return data_; }
  [[nodiscard]] int bytes_per_id() const noexcept { return bytes_per_id_; }
  [[nodiscard]] bool is_signed() const noexcept { return is_signed_; }

  /// Expert of one (token, layer, k), sign-extended; ids beyond 32 bits saturate.
  [[nodiscard]] std::int32_t id(std::int64_t token, int layer, int k) const noexcept;

  /// Copies the ids of the given tokens in one layer to `out` [rows.size()][topk].
  void gather(std::span<const std::int64_t> rows, int layer,
              std::span<std::int32_t> out) const noexcept;

  /// Tokens per (layer, expert) over tokens [begin, end). Masked ids count nowhere.
  [[nodiscard]] Loads loads(std::int64_t begin, std::int64_t end) const;

  /// Throws Error{kInput} naming token, layer, k and value unless every id is -1 or below
  /// num_experts. One pass over the data.
  void validate_ids() const;

 private:
  std::shared_ptr<const void> storage_;
  const std::byte* data_;
  int bytes_per_id_;
  bool is_signed_;
  std::int64_t num_tokens_;
  int num_layers_;
  int topk_;
  TraceInfo info_;
};

/// A trace over ids held in memory.
RoutingTrace make_trace(std::vector<std::uint16_t> ids, std::int64_t num_tokens, int num_layers,
                        int topk, TraceInfo info);

}  // namespace metro
