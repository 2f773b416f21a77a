// SPDX-License-Identifier: Apache-2.0
#include "metro/ep/moe_layer.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <numeric>

#include "ep/check_weights.hpp"
#include "ep/moe_layer_impl.hpp"
#include "metro/error.hpp"

namespace metro::ep {
namespace {

void check_fits(std::string_view what, int value, std::string_view other, int expected) {
  if (value == expected) return;
  throw Error(ErrorCode::kInput,
              fmt::format("{} is {}, must be {}, {}", what, value, expected, other));
}

void check_size(std::string_view what, std::size_t size, std::size_t expected) {
  if (size == expected) return;
  throw Error(ErrorCode::kInput, fmt::format("{} has {} values, must be {}", what, size, expected));
}

LayerShape checked(LayerShape shape) {
  shape.validate();
  return shape;
}

}  // namespace

MoeLayer::Impl::Impl(const LayerShape& shape, const LayerPlacement& placement,
                     const LayerOptions& options, const CpuOptions& cpu, const DenseWeights& dense,
                     WeightSource& experts, Transport& transport)
    : shape_(checked(shape)),
      options_(options),
      weights_(experts),
      shared_(dense.shared),
      transport_(transport),
      gate_(shape, dense.gate),
      experts_(shape, cpu.kernel, cpu.threads),
      targets_({}, transport.size()),
      exchange_(shape.hidden, shape.topk, transport),
      tokens_(static_cast<std::size_t>(transport.size())),
      valid_(tokens_.size()),
      first_(tokens_.size() + 1) {
  check_dense(dense, shape);
  if (shape.shared_intermediate > 0) shared_matmul_ = make_matmul(cpu.kernel, shape.weights);
  set_placement(placement);
}

void MoeLayer::Impl::set_placement(const LayerPlacement& placement) {
  const auto num_experts = static_cast<std::size_t>(shape_.num_experts);
  if (options_.sharding == ExpertSharding::kTensorSharded) {
    std::vector<std::int32_t> experts(num_experts);
    std::iota(experts.begin(), experts.end(), 0);
    experts_.set_slots(experts, std::vector<bool>(num_experts, true),
                       shard_of(shape_.intermediate, transport_.rank(), transport_.size()).width(),
                       weights_);
    targets_ = TokenTargets({}, transport_.size());
    num_slots_ = shape_.num_experts;
    return;
  }
  placement.validate();
  const int shards = options_.shards;
  if (shards < 1 || transport_.size() % shards != 0) {
    throw Error(ErrorCode::kUsage,
                fmt::format("shards is {}, must divide the {} ranks", shards, transport_.size()));
  }
  if (shape_.intermediate % shards != 0) {
    throw Error(ErrorCode::kInfeasible,
                fmt::format("{} ranks cannot share an expert of {} columns equally", shards,
                            shape_.intermediate));
  }
  check_fits("placement num_gpus", placement.num_gpus,
             shards == 1 ? "the number of ranks" : "the number of groups",
             transport_.size() / shards);
  check_fits("placement num_experts", placement.num_experts, "the layer's", shape_.num_experts);
  std::vector<bool> is_local;
  for (const std::int32_t gpu : placement.replica_to_gpu) {
    is_local.push_back(gpu == transport_.rank() / shards);
  }
  experts_.set_slots(placement.replica_to_expert, is_local, shape_.intermediate / shards, weights_);
  targets_ = TokenTargets(placement.replica_to_gpu, transport_.size(), shards);
  num_slots_ = placement.num_replicas();
  placement_ = placement;
  set_policy(options_.policy);
}

void MoeLayer::Impl::set_policy(std::string_view policy) {
  options_.policy = policy;
  if (options_.sharding == ExpertSharding::kTensorSharded) return;
  chooser_.emplace(placement_, policy, options_.route, options_.shards);
}

LayerRun MoeLayer::Impl::forward(const TokenBatch& batch, std::span<float> out) {
  const std::size_t size =
      static_cast<std::size_t>(batch.num_tokens) * static_cast<std::size_t>(shape_.hidden);
  check_size("x", batch.x.size(), size);
  check_size("out", out.size(), size);
  clock_.start();
  share_counts(batch);
  if (options_.dispatch == Dispatch::kAllGather) {
    forward_all_gather(batch, out);
  } else {
    forward_all_to_all(batch, out);
  }
  add_shared(batch, out);
  return {.stage_us = clock_.times(),
          .activated = experts_.activated(),
          .assignments = experts_.assignments(),
          .weight_bytes = experts_.weight_bytes()};
}

void MoeLayer::Impl::share_counts(const TokenBatch& batch) {
  const int valid = batch.num_valid < 0 ? batch.num_tokens : batch.num_valid;
  const std::array<int, 2> own = {batch.num_tokens, std::min(valid, batch.num_tokens)};
  std::vector<std::array<int, 2>> all(num_ranks());
  transport_.all_gather(std::as_bytes(std::span(own)), std::as_writable_bytes(std::span(all)),
                        std::vector<std::size_t>(num_ranks(), sizeof(own)));
  for (std::size_t r = 0; r < num_ranks(); ++r) {
    tokens_[r] = all[r][0];
    valid_[r] = all[r][1];
    first_[r + 1] = first_[r] + tokens_[r];
  }
  clock_.lap(Stage::kDispatch);
}

void MoeLayer::Impl::run_gate(std::span<const float> x, int num_tokens, const TokenBatch& batch) {
  const auto topk = static_cast<std::size_t>(shape_.topk);
  const std::size_t size = static_cast<std::size_t>(num_tokens) * topk;
  if (!batch.expert_ids.empty()) check_size("expert_ids", batch.expert_ids.size(), size);
  const GateOutput& gate = gate_.run(x, num_tokens, batch.expert_ids);
  expert_ids_ = gate.expert_ids;
  gate_weights_ = gate.weights;
  replica_ids_.resize(size);

  const bool is_global = options_.dispatch == Dispatch::kAllGather;
  const auto own = static_cast<std::size_t>(transport_.rank());
  for (std::size_t r = is_global ? 0 : own; r < (is_global ? num_ranks() : own + 1); ++r) {
    const int first = is_global ? first_[r] : 0;
    const auto begin = static_cast<std::size_t>(first + valid_[r]) * topk;
    const auto end = static_cast<std::size_t>(first + tokens_[r]) * topk;
    std::fill(expert_ids_.begin() + static_cast<std::ptrdiff_t>(begin),
              expert_ids_.begin() + static_cast<std::ptrdiff_t>(end), kMasked);
  }
  clock_.lap(Stage::kGate);
}

void MoeLayer::Impl::forward_all_gather(const TokenBatch& batch, std::span<float> out) {
  const auto hidden = static_cast<std::size_t>(shape_.hidden);
  const int total = first_.back();
  std::vector<std::size_t> counts(num_ranks());
  std::ranges::transform(tokens_, counts.begin(),
                         [&](int n) { return static_cast<std::size_t>(n) * hidden; });
  std::vector<std::size_t> bytes(num_ranks());
  std::ranges::transform(counts, bytes.begin(), [](std::size_t n) { return n * sizeof(float); });
  x_.resize(static_cast<std::size_t>(total) * hidden);
  transport_.all_gather(std::as_bytes(batch.x), std::as_writable_bytes(std::span(x_)), bytes);
  clock_.lap(Stage::kDispatch);

  run_gate(x_, total, batch);
  if (batch.replica_ids) {
    take_replicas(*batch.replica_ids);
  } else if (chooser_) {
    chooser_->route({expert_ids_, total, shape_.topk}, replica_ids_);
  } else {
    replica_ids_ = expert_ids_;
  }
  clock_.lap(Stage::kRoute);

  run_experts(x_, replica_ids_, gate_weights_);
  if (options_.combine == Combine::kReduceScatter) {
    transport_.reduce_scatter(partial_, out, counts);
  } else {
    combine_all_to_all(out);
  }
  clock_.lap(Stage::kCombine);
}

/// Sends each rank the rows of its tokens that were served here. All ranks know who served what.
void MoeLayer::Impl::combine_all_to_all(std::span<float> out) {
  const auto hidden = static_cast<std::size_t>(shape_.hidden);
  const int rank = transport_.rank();
  targets_.compute(replica_ids_, first_.back());
  const int own = first_[static_cast<std::size_t>(rank)];
  const int own_end = first_[static_cast<std::size_t>(rank) + 1];
  std::vector<std::size_t> send_bytes(num_ranks());
  std::vector<std::size_t> receive_bytes(num_ranks());
  std::size_t num_rows = 0;
  for (std::size_t r = 0; r < num_ranks(); ++r) {
    const std::size_t back = targets_.rows(static_cast<int>(r), own, own_end).size();
    send_bytes[r] = targets_.rows(rank, first_[r], first_[r + 1]).size() * hidden * sizeof(float);
    receive_bytes[r] = back * hidden * sizeof(float);
    num_rows += back;
  }
  served_.clear();
  for (const std::int32_t row : targets_.rows(rank)) {
    const float* values = partial_.data() + static_cast<std::size_t>(row) * hidden;
    served_.insert(served_.end(), values, values + hidden);
  }
  returned_.resize(num_rows * hidden);
  transport_.all_to_all(std::as_bytes(std::span(served_)), send_bytes,
                        std::as_writable_bytes(std::span(returned_)), receive_bytes);
  add_returned(returned_, own, out);
}

void MoeLayer::Impl::forward_all_to_all(const TokenBatch& batch, std::span<float> out) {
  run_gate(batch.x, batch.num_tokens, batch);
  const TopkView own{expert_ids_, batch.num_tokens, shape_.topk};
  if (batch.replica_ids) {
    take_replicas(*batch.replica_ids);
  } else if (chooser_) {
    chooser_->share(own, tokens_, transport_);
    clock_.lap(Stage::kExchange);
    chooser_->route_own(own, replica_ids_);
  } else {
    replica_ids_ = expert_ids_;
  }
  clock_.lap(Stage::kRoute);

  targets_.compute(replica_ids_, batch.num_tokens);
  const TokenExchange::Rows rows =
      exchange_.dispatch(targets_, {batch.x, replica_ids_, gate_weights_});
  clock_.lap(Stage::kDispatch);
  run_experts(rows.x, rows.replica_ids, rows.weights);
  add_returned(exchange_.give_back(partial_), 0, out);
  clock_.lap(Stage::kCombine);
}

/// Leaves what this rank adds to each row in `partial_`.
void MoeLayer::Impl::run_experts(std::span<const float> x,
                                 std::span<const std::int32_t> replica_ids,
                                 std::span<const float> weights) {
  experts_.permute(replica_ids, static_cast<int>(replica_ids.size()) / shape_.topk);
  clock_.lap(Stage::kPermute);
  experts_.run(x);
  clock_.lap(Stage::kExperts);
  partial_.resize(x.size());
  experts_.combine(weights, partial_);
}

/// Adds up in rank order what came back for the rows from `first_row`, this rank's tokens.
void MoeLayer::Impl::add_returned(std::span<const float> returned, int first_row,
                                  std::span<float> out) {
  const auto hidden = static_cast<std::size_t>(shape_.hidden);
  const int end = first_row + static_cast<int>(out.size() / hidden);
  std::ranges::fill(out, 0.0F);
  const float* row = returned.data();
  for (int r = 0; r < transport_.size(); ++r) {
    for (const std::int32_t t : targets_.rows(r, first_row, end)) {
      float* sum = out.data() + static_cast<std::size_t>(t - first_row) * hidden;
      for (std::size_t h = 0; h < hidden; ++h) sum[h] += row[h];
      row += hidden;
    }
  }
}

void MoeLayer::Impl::take_replicas(std::span<const std::int32_t> given) {
  check_size("replica_ids", given.size(), replica_ids_.size());
  for (std::size_t i = 0; i < given.size(); ++i) {
    if (given[i] < kMasked || given[i] >= num_slots_) {
      throw Error(ErrorCode::kInput, fmt::format("replica_ids[{}] is {}, must be -1 or below {}", i,
                                                 given[i], num_slots_));
    }
  }
  std::ranges::copy(given, replica_ids_.begin());
}

void MoeLayer::Impl::add_shared(const TokenBatch& batch, std::span<float> out) {
  const int valid = valid_[static_cast<std::size_t>(transport_.rank())];
  if (!shared_matmul_ || valid == 0) return;
  const std::size_t size =
      static_cast<std::size_t>(valid) * static_cast<std::size_t>(shape_.hidden);
  shared_out_.resize(size);
  run_mlp(*shared_matmul_, shared_, batch.x.data(), static_cast<std::size_t>(valid), shared_mlp_,
          shared_out_.data());
  for (std::size_t i = 0; i < size; ++i) out[i] += shared_out_[i];
  clock_.lap(Stage::kShared);
}

MoeLayer::MoeLayer(const LayerShape& shape, const LayerPlacement& placement,
                   const LayerOptions& options, const CpuOptions& cpu, const DenseWeights& dense,
                   WeightSource& experts, Transport& transport)
    : impl_(std::make_unique<Impl>(shape, placement, options, cpu, dense, experts, transport)) {}
MoeLayer::~MoeLayer() = default;
MoeLayer::MoeLayer(MoeLayer&&) noexcept = default;
MoeLayer& MoeLayer::operator=(MoeLayer&&) noexcept = default;

void MoeLayer::set_placement(const LayerPlacement& placement) { impl_->set_placement(placement); }
void MoeLayer::set_policy(std::string_view policy) { impl_->set_policy(policy); }
LayerRun MoeLayer::forward(const TokenBatch& batch, std::span<float> out) {
  return impl_->forward(batch, out);
}
std::span<const std::int32_t> MoeLayer::replica_ids() const noexcept { return impl_->replica_ids_; }

}  // namespace metro::ep
