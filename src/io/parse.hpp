// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "io/bytes.hpp"
#include "metro/convert.hpp"
#include "metro/io.hpp"

/// The readers of metro/io.hpp and metro/convert.hpp over bytes in memory, for tests and fuzzing;
/// `file` names the bytes in messages.
namespace metro::io {

struct NamedText {
  std::string_view text;
  std::string_view file;
};

/// `storage` keeps `npy` alive. `sidecar` is called once the `.npy` alone has been checked.
RoutingTrace parse_trace(std::shared_ptr<const void> storage, Bytes npy, std::string_view file,
                         const std::function<NamedText()>& sidecar);
Loads parse_loads(Bytes bytes, std::string_view file);
TopkBatch parse_topk(Bytes bytes, int num_experts, std::string_view file);
ExpertCost parse_expert_cost(std::string_view text, const ExpertChoice& choice,
                             std::string_view file);
Placement parse_placement(std::string_view text, std::string_view file);
RoutingTrace parse_csv_trace(std::string_view text, const CsvLayout& layout, TraceInfo info,
                             std::string_view file);
RoutingTrace parse_raw_trace(std::shared_ptr<const void> storage, Bytes bytes,
                             const RawLayout& layout, TraceInfo info, std::string_view file);

/// The sidecar's text, ending in a newline; `npy_sha256` is the digest of the `.npy` beside it.
std::string format_trace_info(const RoutingTrace& trace, std::string_view npy_sha256);

bool is_trace_phase(std::string_view phase) noexcept;

/// True for `.npy`, false for JSON; throws Error{kInput} for bytes that can be neither.
bool is_npy_else_json(Bytes bytes, std::string_view file);

}  // namespace metro::io
