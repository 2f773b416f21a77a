// SPDX-License-Identifier: Apache-2.0
#include "sim/routing_pool.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "core/rng.hpp"
#include "metro/error.hpp"

namespace metro::sim {
namespace {

constexpr int kMaxDistinctLayers = 32;
// Requests that decode together are of as many sequences; prompts are long runs of one.
constexpr int kDecodeSequences = 768;
constexpr int kDecodeLength = 4;  // longer with more drafts
constexpr int kPrefillSequences = 12;
constexpr int kPrefillLength = 256;
/// Ids that StepRows may copy: 128 MiB of them.
constexpr std::int64_t kMaxCopiedIds = std::int64_t{32} << 20;

Loads training_loads(const RoutingTrace& trace) { return trace.loads(0, trace.num_tokens() / 2); }

/// How unlike two counts are, whatever their size.
double distance(int a, int b) { return std::abs(std::log(static_cast<double>(a) / b)); }

}  // namespace

StepRows::StepRows(std::shared_ptr<const RoutingTrace> trace)
    : trace_(std::move(trace)), begin_(trace_->num_tokens() / 2) {
  const std::int64_t num_rows = trace_->num_tokens() - begin_;
  const std::int64_t per_row = std::int64_t{trace_->num_layers()} * trace_->topk();
  if (num_rows > kMaxCopiedIds / per_row) return;
  ids_.resize(static_cast<std::size_t>(num_rows * per_row));
  std::size_t at = 0;
  for (int layer = 0; layer < trace_->num_layers(); ++layer) {
    for (std::int64_t row = begin_; row < trace_->num_tokens(); ++row) {
      for (int k = 0; k < trace_->topk(); ++k) ids_[at++] = trace_->id(row, layer, k);
    }
  }
}

void StepRows::gather(std::span<const std::int64_t> rows, int layer,
                      std::span<std::int32_t> out) const noexcept {
  if (ids_.empty()) {
    trace_->gather(rows, layer, out);
    return;
  }
  const auto topk = static_cast<std::size_t>(trace_->topk());
  const auto num_rows = static_cast<std::size_t>(trace_->num_tokens() - begin_);
  const std::int32_t* of_layer = &ids_[static_cast<std::size_t>(layer) * num_rows * topk];
  std::int32_t* to = out.data();
  for (const std::int64_t row : rows) {
    const std::int32_t* from = of_layer + static_cast<std::size_t>(row - begin_) * topk;
    to = std::copy_n(from, topk, to);
  }
}

void check_trace(const RoutingTrace& trace, const ModelConfig& model) {
  const auto need = [&](bool ok, const char* field, std::int64_t found, const char* words,
                        int wanted) {
    if (ok) return;
    throw Error(ErrorCode::kInput, fmt::format("{} is {}, must be {}{} as {} has", field, found,
                                               words, wanted, model.name));
  };
  need(trace.num_experts() == model.num_experts, "num_experts", trace.num_experts(), "",
       model.num_experts);
  need(trace.topk() == model.topk, "topk", trace.topk(), "", model.topk);
  need(trace.num_layers() <= model.num_moe_layers(), "num_layers", trace.num_layers(), "at most ",
       model.num_moe_layers());
  if (trace.num_tokens() < 2) {
    throw Error(ErrorCode::kInput,
                "has 1 token, must have 2 at least: placements come from the first half, steps "
                "from the second");
  }
}

RoutingPool pool_of_trace(const std::shared_ptr<const RoutingTrace>& trace,
                          const ModelConfig& model) {
  check_trace(*trace, model);
  const auto rows = std::make_shared<const StepRows>(trace);
  return {rows, rows, training_loads(*trace)};
}

RoutingPool pool_of_profile(const RouterProfile& profile, const ModelConfig& model,
                            int draft_tokens, std::uint64_t seed) {
  RouterModel router = profile.model;
  router.num_experts = model.num_experts;
  router.topk = model.topk;
  router.num_layers = std::min(model.num_moe_layers(), kMaxDistinctLayers);
  router.num_groups = std::min(router.num_groups, std::max(1, model.num_experts / 4));
  // The generator draws a layer's popularity first: one seed gives both traces the same.
  const auto draw = [&](int sequences, int length, const char* phase) {
    return std::make_shared<const RoutingTrace>(generate_trace(
        router, std::vector<std::int64_t>(static_cast<std::size_t>(sequences), length), phase,
        seed));
  };
  const auto decode = draw(kDecodeSequences, std::max(kDecodeLength, 1 + draft_tokens), "decode");
  const auto prefill = draw(kPrefillSequences, kPrefillLength, "prefill");
  // A few long prompts say little of which experts are popular; many short sequences do.
  Loads loads = training_loads(*decode);
  return {std::make_shared<const StepRows>(decode), std::make_shared<const StepRows>(prefill),
          std::move(loads)};
}

const RouterProfile& nearest_profile(const ModelConfig& model) {
  const auto unlike = [&model](const RouterProfile& profile) {
    if (profile.name == "uniform") return 1e9;
    return 4 * distance(profile.model.num_experts, model.num_experts) +
           2 * distance(profile.model.topk, model.topk) +
           distance(profile.model.num_layers, model.num_moe_layers());
  };
  return *std::ranges::min_element(router_profiles(), {}, unlike);
}

}  // namespace metro::sim
