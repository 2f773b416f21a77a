// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "io/fail.hpp"
#include "io/json_reader.hpp"
#include "io/npy.hpp"
#include "io/output_file.hpp"
#include "io/parse.hpp"
#include "io/sha256.hpp"
#include "metro/error.hpp"
#include "metro/topk.hpp"

namespace metro::io {
namespace {

/// Calls `f` with every id of one token after another.
template <typename F>
void for_each_id(const RoutingTrace& trace, std::int64_t token, F&& f) {
  for (int layer = 0; layer < trace.num_layers(); ++layer) {
    for (int k = 0; k < trace.topk(); ++k) f(trace.id(token, layer, k));
  }
}

/// The smallest type for the ids at hand: unsigned, unless one is masked.
DType smallest_type(const RoutingTrace& trace) {
  std::int32_t largest = 0;
  bool has_masked = false;
  for (std::int64_t token = 0; token < trace.num_tokens(); ++token) {
    for_each_id(trace, token, [&](std::int32_t id) {
      largest = std::max(largest, id);
      has_masked = has_masked || id == kMasked;
    });
  }
  const std::int32_t spread = has_masked ? 2 * largest + 1 : largest;  // ids stay below 65536
  const int bytes = spread <= std::numeric_limits<std::uint8_t>::max()    ? 1
                    : spread <= std::numeric_limits<std::uint16_t>::max() ? 2
                                                                          : 4;
  return {has_masked ? 'i' : 'u', bytes};
}

/// Writes the array and returns its digest.
std::string write_array(const RoutingTrace& trace, OutputFile& file) {
  constexpr std::size_t kFlushAt = std::size_t{1} << 20;
  const DType type = smallest_type(trace);
  Sha256 hash;
  const auto write = [&](Bytes bytes) {
    hash.update(bytes);
    file.write(bytes);
  };
  const std::string header =
      format_npy_header(type, {trace.num_tokens(), trace.num_layers(), trace.topk()});
  write(text_bytes(header));
  std::vector<std::byte> chunk;
  with_type(type, [&]<typename T>(T) {
    for (std::int64_t token = 0; token < trace.num_tokens(); ++token) {
      for_each_id(trace, token, [&](std::int32_t id) {
        chunk.resize(chunk.size() + sizeof(T));
        store_le(static_cast<T>(id), chunk.data() + chunk.size() - sizeof(T));
      });
      if (chunk.size() >= kFlushAt) {
        write(chunk);
        chunk.clear();
      }
    }
  });
  write(chunk);
  return hash.finish();
}

std::string json_text(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace

std::string format_trace_info(const RoutingTrace& trace, std::string_view npy_sha256) {
  const TraceInfo& info = trace.info();
  return fmt::format(
      "{{\n  \"format\": \"metro-trace\",\n  \"version\": 1,\n  \"num_experts\": {},\n"
      "  \"num_layers\": {},\n  \"topk\": {},\n  \"model\": {},\n  \"phase\": {},\n"
      "  \"source\": {},\n  \"licence\": {},\n  \"npy_sha256\": \"{}\",\n"
      "  \"sequence_lengths\": [{}]\n}}\n",
      info.num_experts, trace.num_layers(), trace.topk(), json_text(info.model),
      json_text(info.phase.empty() ? "mixed" : info.phase), json_text(info.source),
      json_text(info.licence), npy_sha256, fmt::join(info.sequence_lengths, ", "));
}

void write_trace(const RoutingTrace& trace, const std::filesystem::path& npy) {
  const std::string& phase = trace.info().phase;
  if (!phase.empty() && !is_trace_phase(phase)) {
    fail(npy.string(),
         fmt::format("phase is {}, must be 'decode', 'prefill' or 'mixed'", quote(phase)));
  }
  if (npy.extension() != ".npy") {
    throw Error(ErrorCode::kUsage, fmt::format("{}: must end in .npy", npy.string()));
  }
  const std::filesystem::path json = std::filesystem::path(npy).replace_extension(".json");
  trace.validate_ids();
  OutputFile sidecar(json);
  OutputFile array(npy);
  const std::string digest = write_array(trace, array);
  sidecar.write(text_bytes(format_trace_info(trace, digest)));
  // The sidecar first: beside an old array its digest tells.
  OutputFile::commit_both(sidecar, array);
}

}  // namespace metro::io
