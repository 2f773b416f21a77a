// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/bench_batches.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <string>

#include "metro/batches.hpp"
#include "metro/error.hpp"
#include "metro/trace_generator.hpp"
#include "replay/synthetic_batches.hpp"

namespace metro::layer_bench {
namespace {

constexpr int kSequenceLength = 32;

/// The router profile whose name the model's begins with; null: none.
const RouterProfile* profile_of(const ModelConfig& model) {
  const auto same = [](char a, char b) {
    return std::tolower(static_cast<unsigned char>(a)) ==
           std::tolower(static_cast<unsigned char>(b));
  };
  const RouterProfile* best = nullptr;
  for (const RouterProfile& profile : router_profiles()) {
    const bool fits = profile.model.num_experts == model.num_experts &&
                      profile.model.topk == model.topk && profile.name.size() <= model.name.size();
    if (!fits || !std::equal(profile.name.begin(), profile.name.end(), model.name.begin(), same)) {
      continue;
    }
    if (best == nullptr || profile.name.size() > best->name.size()) best = &profile;
  }
  return best;
}

}  // namespace

BenchRouting::BenchRouting(const ModelConfig& model, const LayerBenchOptions& options,
                           int max_batch)
    : topk_(model.topk), num_batches_(options.batches), seed_(options.seed) {
  if (options.trace != nullptr) {
    const RoutingTrace& trace = *options.trace;
    if (trace.num_experts() != model.num_experts || trace.topk() != model.topk ||
        options.trace_layer < 0 || options.trace_layer >= trace.num_layers()) {
      throw Error(ErrorCode::kInput,
                  fmt::format("the trace has {} experts, top-{} and {} layers, {} needs {}, top-{} "
                              "and layer {}",
                              trace.num_experts(), trace.topk(), trace.num_layers(), model.name,
                              model.num_experts, model.topk, options.trace_layer));
    }
    trace_ = trace;
    layer_ = options.trace_layer;
  } else if (const RouterProfile* profile = profile_of(model); profile != nullptr) {
    RouterModel router = profile->model;
    router.num_layers = 1;
    // Enough sequences that a batch takes one token of each, as decoding does.
    const std::int64_t sequences = 2 * std::max<std::int64_t>(max_batch, 256);
    trace_ = generate_trace(router, equal_sequences(sequences * kSequenceLength, kSequenceLength),
                            "decode", options.seed);
  }
  if (!trace_) {
    loads_ = lognormal_loads(model.num_experts, options.seed);
    return;
  }
  const std::int64_t half = trace_->num_tokens() / 2;
  if (max_batch > trace_->num_tokens() - half) {
    throw Error(ErrorCode::kInfeasible,
                fmt::format("a batch of {} tokens, but the second half of the trace has {}",
                            max_batch, trace_->num_tokens() - half));
  }
  const Loads loads = trace_->loads(0, half);
  const auto layer = loads.layer(layer_);
  loads_.assign(layer.begin(), layer.end());
}

std::vector<TopkBatch> BenchRouting::batches(int num_tokens) const {
  if (!trace_) return draw_batches(loads_, num_tokens, topk_, num_batches_, seed_);
  DecodeBatches drawn(*trace_, trace_->num_tokens() / 2, trace_->num_tokens());
  std::vector<TopkBatch> result;
  for (int i = 0; i < num_batches_; ++i) {
    const auto rows = drawn.draw(num_tokens, seed_, static_cast<std::uint64_t>(i));
    TopkBatch batch{{}, num_tokens, topk_};
    batch.ids.resize(rows.size() * static_cast<std::size_t>(topk_));
    trace_->gather(rows, layer_, batch.ids);
    result.push_back(std::move(batch));
  }
  return result;
}

}  // namespace metro::layer_bench
