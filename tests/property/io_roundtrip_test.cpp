// SPDX-License-Identifier: Apache-2.0
// What a writer writes, its reader gives back; and no damage to it does worse than an Error.
#include <gtest/gtest.h>
#include <rapidcheck/gtest.h>

#include <cmath>

#include "io/npy.hpp"
#include "io/parse.hpp"
#include "unit/io_support.hpp"

namespace metro::io {
namespace {

using io_test::packed;
using io_test::TempDir;

LayerPlacement any_layer(int num_experts, int num_gpus) {
  LayerPlacement layer{num_experts, num_gpus, {}, {}, {}, {}};
  for (std::int32_t expert = 0; expert < num_experts; ++expert) {
    const int copies = *rc::gen::inRange(1, 4);
    for (int copy = 0; copy < copies; ++copy) layer.replica_to_expert.push_back(expert);
  }
  for (std::size_t i = layer.replica_to_expert.size(); i > 1; --i) {
    std::swap(layer.replica_to_expert[i - 1],
              layer.replica_to_expert[*rc::gen::inRange<std::size_t>(0, i)]);
  }
  const auto slots = layer.replica_to_expert.size();
  layer.replica_to_gpu =
      *rc::gen::container<std::vector<std::int32_t>>(slots, rc::gen::inRange(0, num_gpus));
  if (*rc::gen::arbitrary<bool>()) {
    layer.home.resize(static_cast<std::size_t>(num_experts));
    for (std::size_t slot = 0; slot < slots; ++slot) {
      layer.home[static_cast<std::size_t>(layer.replica_to_expert[slot])] =
          static_cast<std::int32_t>(slot);
    }
  }
  if (*rc::gen::arbitrary<bool>()) {
    for (std::size_t slot = 0; slot < slots; ++slot) {
      const double share = std::abs(*rc::gen::arbitrary<double>());
      layer.shares.push_back(std::isfinite(share) && share > 0 ? share : 0x1p-1074);
    }
  }
  return layer;
}

Placement any_placement() {
  Placement placement{*rc::gen::inRange(1, 20), *rc::gen::inRange(1, 9), {}};
  const int layers = *rc::gen::inRange(1, 4);
  for (int i = 0; i < layers; ++i) {
    placement.layers.push_back(any_layer(placement.num_experts, placement.num_gpus));
  }
  placement.shards = *rc::gen::element(1, 1, 2, 4);
  return placement;
}

RoutingTrace any_trace() {
  const std::int64_t tokens = *rc::gen::inRange(1, 30);
  const int layers = *rc::gen::inRange(1, 5);
  const int topk = *rc::gen::inRange(1, 5);
  const int num_experts = *rc::gen::element(1, 2, 128, 129, 256, 257, 32768, 65536);
  const int lowest = *rc::gen::element(0, -1);
  const auto ids = *rc::gen::container<std::vector<std::int32_t>>(
      static_cast<std::size_t>(tokens * layers * topk), rc::gen::inRange(lowest, num_experts));
  TraceInfo info{num_experts, *rc::gen::arbitrary<std::string>(), "prefill", {}, "", ""};
  info.model.erase(std::remove_if(info.model.begin(), info.model.end(),
                                  [](char c) { return c < 1; }),  // not valid UTF-8
                   info.model.end());
  for (std::int64_t left = tokens; left > 0; left -= info.sequence_lengths.back()) {
    info.sequence_lengths.push_back(*rc::gen::inRange<std::int64_t>(1, left + 1));
  }
  auto bytes = std::make_shared<const std::string>(packed(ids));
  return parse_raw_trace(bytes, text_bytes(*bytes),
                         {"<i4", RawLayout::Order::kTokensFirst, layers, topk}, info, "raw");
}

void expect_same(const RoutingTrace& a, const RoutingTrace& b) {
  RC_ASSERT(a.num_tokens() == b.num_tokens());
  RC_ASSERT(a.num_layers() == b.num_layers());
  RC_ASSERT(a.topk() == b.topk());
  RC_ASSERT(a.num_experts() == b.num_experts());
  RC_ASSERT(a.info().model == b.info().model);
  RC_ASSERT(a.info().phase == b.info().phase);
  RC_ASSERT(a.info().sequence_lengths == b.info().sequence_lengths);
  for (std::int64_t token = 0; token < a.num_tokens(); ++token) {
    for (int layer = 0; layer < a.num_layers(); ++layer) {
      for (int k = 0; k < a.topk(); ++k) RC_ASSERT(a.id(token, layer, k) == b.id(token, layer, k));
    }
  }
}

RC_GTEST_PROP(IoRoundTrip, Placement, ()) {
  const Placement placement = any_placement();
  const std::string text = format_placement(placement);
  RC_ASSERT(parse_placement(text, "f") == placement);
  RC_ASSERT(format_placement(parse_placement(text, "f")) == text);
}

RC_GTEST_PROP(IoRoundTrip, Trace, ()) {
  const TempDir dir;
  const RoutingTrace trace = any_trace();
  write_trace(trace, dir / "t.npy");
  expect_same(read_trace(dir / "t.npy"), trace);
}

RC_GTEST_PROP(IoRoundTrip, TraceAsCsv, ()) {
  const RoutingTrace trace = any_trace();
  std::vector<std::string> rows;
  std::string wide;
  for (std::int64_t token = 0; token < trace.num_tokens(); ++token) {
    for (int layer = 0; layer < trace.num_layers(); ++layer) {
      for (int k = 0; k < trace.topk(); ++k) {
        const std::string id = std::to_string(trace.id(token, layer, k));
        rows.push_back(std::to_string(token) + "," + std::to_string(layer) + "," +
                       std::to_string(k) + "," + id + "\n");
        wide += (layer + k == 0 ? "" : ",") + id;
      }
    }
    wide += "\n";
  }
  std::string cells = "token,layer,k,expert\n";
  while (!rows.empty()) {  // in any order
    std::swap(rows.back(), rows[*rc::gen::inRange<std::size_t>(0, rows.size())]);
    cells += rows.back();
    rows.pop_back();
  }
  expect_same(parse_csv_trace(cells, {}, trace.info(), "f"), trace);
  expect_same(parse_csv_trace(wide, {trace.num_layers(), trace.topk()}, trace.info(), "f"), trace);
}

RC_GTEST_PROP(IoRoundTrip, NpyHeader, ()) {
  const DType type = *rc::gen::element(DType{'u', 1}, DType{'i', 2}, DType{'f', 8});
  const auto shape =
      *rc::gen::container<std::vector<std::int64_t>>(rc::gen::inRange<std::int64_t>(0, 5));
  RC_PRE(shape.size() <= 8U);
  std::size_t count = 1;
  for (const std::int64_t dim : shape) count *= static_cast<std::size_t>(dim);
  std::string file = format_npy_header(type, shape);
  RC_ASSERT(file.size() % 64 == 0U);
  file.append(count * static_cast<std::size_t>(type.bytes), '\0');
  const NpyArray array = parse_npy(text_bytes(file), "f");
  RC_ASSERT(array.type == type);
  RC_ASSERT(array.shape == shape);
  RC_ASSERT(array.count == count);
}

RC_GTEST_PROP(IoRoundTrip, TopkJsonAndNpyAgree, ()) {
  const int tokens = *rc::gen::inRange(1, 10);
  const int topk = *rc::gen::inRange(1, 6);
  const auto ids = *rc::gen::container<std::vector<std::int32_t>>(
      static_cast<std::size_t>(tokens * topk), rc::gen::inRange(-1, 8));
  std::string json = "[";
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const bool opens_row = i % static_cast<std::size_t>(topk) == 0;
    json += (!opens_row ? "," : i == 0 ? "[" : "],[") + std::to_string(ids[i]);
  }
  json += "]]";
  const std::string npy = format_npy_header({'i', 4}, {tokens, topk}) + packed(ids);
  const TopkBatch from_json = parse_topk(text_bytes(json), 8, "f");
  const TopkBatch from_npy = parse_topk(text_bytes(npy), 8, "f");
  RC_ASSERT(from_json.ids == ids);
  RC_ASSERT(from_npy.ids == ids);
  RC_ASSERT(from_json.topk == topk);
  RC_ASSERT(from_npy.topk == topk);
}

/// One byte changed, dropped or doubled: a placement or an Error, nothing else.
RC_GTEST_PROP(IoRoundTrip, DamagedPlacement, ()) {
  std::string text = format_placement(any_placement());
  const auto at = *rc::gen::inRange<std::size_t>(0, text.size());
  switch (*rc::gen::inRange(0, 3)) {
    case 0:
      text[at] = *rc::gen::arbitrary<char>();
      break;
    case 1:
      text.erase(at, 1);
      break;
    default:
      text.insert(at, 1, text[at]);
  }
  try {
    parse_placement(text, "f").validate();
  } catch (const Error& error) {
    RC_ASSERT(error.code() == ErrorCode::kInput);
  }
}

}  // namespace
}  // namespace metro::io
