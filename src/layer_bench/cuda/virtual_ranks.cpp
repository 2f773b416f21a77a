// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/cuda/virtual_ranks.hpp"

#include <fmt/format.h>

#include "layer_bench/random_weights.hpp"
#include "metro/error.hpp"

namespace metro::layer_bench::cuda {
namespace {

using Bf16 = __nv_bfloat16;

std::size_t at(int index) { return static_cast<std::size_t>(index); }

std::size_t product(int a, int b) { return at(a) * at(b); }

int slots_per_rank(const VirtualTokens& tokens, const BenchCase& of) {
  if (of.sharding == ep::ExpertSharding::kTensorSharded) return tokens.shape().num_experts;
  if (!ep::cuda::is_contiguous(of.placement)) {
    throw Error(ErrorCode::kUsage,
                "virtual ranks need a placement of equal, contiguous slots per GPU");
  }
  return of.placement.num_replicas() / of.placement.num_gpus;
}

int expert_width(const VirtualTokens& tokens, const BenchCase& of) {
  const bool sharded = of.sharding == ep::ExpertSharding::kTensorSharded;
  return (sharded ? ep::cuda::expert_slice(tokens.shape(), 0, tokens.num_ranks())
                  : ep::cuda::whole_expert(tokens.shape()))
      .width;
}

}  // namespace

VirtualTokens::VirtualTokens(const BenchModel& model, int num_ranks, int tokens_per_rank,
                             std::uint64_t seed, const ep::cuda::Stream& stream)
    : shape_(model.shape),
      num_ranks_(num_ranks),
      tokens_per_rank_(tokens_per_rank),
      num_ids_(product(rows(), shape_.topk)),
      gate_(shape_, rows()) {
  const int hidden = shape_.hidden;
  const auto beyond = static_cast<std::uint32_t>(shape_.num_experts);  // experts' own keys
  const auto key = [&](std::uint32_t expert, MatrixKind kind) {
    return weight_key(seed, expert, kind);
  };
  x_ = random_matrix(rows(), hidden, key(beyond + 1, MatrixKind::kRouter));
  gate_matrix_ = random_matrix(shape_.num_experts, hidden, key(beyond, MatrixKind::kRouter));
  dense_.gate = gate_matrix_.get();
  if (const int width = shape_.shared_intermediate; width > 0) {
    shared_.emplace(hidden, width, tokens_per_rank);
    shared_gate_up_ = random_matrix(2 * width, hidden, key(beyond, MatrixKind::kGateUp));
    shared_down_ = random_matrix(hidden, width, key(beyond, MatrixKind::kDown));
    dense_.shared_gate_up = shared_gate_up_.get();
    dense_.shared_down = shared_down_.get();
  }
  std::vector<std::int32_t> ids;
  for (const TopkBatch& batch : model.routing.batches(rows())) {
    ids.insert(ids.end(), batch.ids.begin(), batch.ids.end());
    ++num_batches_;
  }
  batches_ = metro::cuda::upload(ids);
  counts_ = metro::cuda::upload(std::vector<std::int32_t>(at(num_ranks), tokens_per_rank));
  forced_ids_ = metro::cuda::make_device_array<std::int32_t>(num_ids_);
  topk_ids_ = metro::cuda::make_device_array<std::int32_t>(num_ids_);
  replica_ids_ = metro::cuda::make_device_array<std::int32_t>(num_ids_);
  topk_weights_ = metro::cuda::make_device_array<float>(num_ids_);
  // Libraries load on first use, which no capture allows.
  use_batch(0, stream);
  run_gate(stream);
  run_shared(stream);
  stream.wait();
}

void VirtualTokens::use_batch(std::size_t batch, cudaStream_t stream) const {
  METRO_CUDA_CHECK(cudaMemcpyAsync(forced_ids_.get(), batches_.get() + batch * num_ids_,
                                   num_ids_ * sizeof(std::int32_t), cudaMemcpyDeviceToDevice,
                                   stream));
}

void VirtualTokens::run_gate(cudaStream_t stream) {
  gate_.choose(x_.get(), dense_.gate, {counts_.get(), num_ranks_, tokens_per_rank_},
               forced_ids_.get(), topk_ids_.get(), topk_weights_.get(), stream);
}

void VirtualTokens::run_shared(cudaStream_t stream) {
  if (shared_) shared_->run(x_.get(), tokens_per_rank_, dense_, stream);
}

void VirtualTokens::run_route(metro::cuda::Router& router, cudaStream_t stream) const {
  router.route(0, topk_ids_.get(), rows(), replica_ids_.get(), stream);
}

std::vector<std::int32_t> VirtualTokens::read(const std::int32_t* ids,
                                              const ep::cuda::Stream& stream) const {
  std::vector<std::int32_t> values(num_ids_);
  stream.wait();
  METRO_CUDA_CHECK(
      cudaMemcpy(values.data(), ids, num_ids_ * sizeof(std::int32_t), cudaMemcpyDeviceToHost));
  return values;
}

VirtualRanks::VirtualRanks(VirtualTokens& tokens, const WeightSets& weights, const BenchCase& of,
                           const ep::cuda::Stream& stream)
    : tokens_(tokens),
      placement_(of.placement),
      tensor_sharded_(of.sharding == ep::ExpertSharding::kTensorSharded),
      num_ranks_(tensor_sharded_ ? 1 : tokens.num_ranks()),
      num_slots_(slots_per_rank(tokens, of)),
      stage_({.hidden = tokens.shape().hidden,
              .intermediate = expert_width(tokens, of),
              .topk = tokens.shape().topk,
              .max_tokens = tokens.rows(),
              .num_slots = num_slots_,
              .weights = tokens.shape().weights}),
      out_(metro::cuda::make_device_array<Bf16>(product(tokens.rows(), tokens.shape().hidden))) {
  for (std::size_t set = 0; set < weights.count(); ++set) {
    // A slice of an expert is as good as the expert's first bytes: only sizes count here.
    std::vector<ep::cuda::ExpertPointers> pointers;
    for (int slot = 0; slot < num_ranks_ * num_slots_; ++slot) {
      const int expert = tensor_sharded_ ? slot : placement_.replica_to_expert[at(slot)];
      pointers.push_back(weights[set][at(expert)]);
    }
    tables_.push_back(std::make_unique<ep::cuda::SlotTable>(
        ep::cuda::WeightShape{tokens.shape().hidden, expert_width(tokens, of),
                              tokens.shape().weights},
        num_ranks_ * num_slots_, 0));
    tables_.back()->update({}, pointers, stream);
  }
  run_permute(0, stream);
  run_experts(0, 0, stream);
  run_combine(stream);
  stream.wait();
  for (int rank = 0; rank < num_ranks_; ++rank) {
    permute_.emplace_back(stream, [&] { run_permute(rank, stream); });
    for (std::size_t set = 0; set < num_sets(); ++set) {
      experts_.emplace_back(stream, [&] { run_experts(rank, set, stream); });
      replayed_.emplace_back(stream, [&] { run_layer(nullptr, rank, set, stream); });
    }
  }
}

bool VirtualRanks::serve(const BenchCase& of) const {
  return tensor_sharded_ == (of.sharding == ep::ExpertSharding::kTensorSharded) &&
         of.placement == placement_;
}

void VirtualRanks::run_permute(int rank, cudaStream_t stream) {
  const std::int32_t* ids = tensor_sharded_ ? tokens_.topk_ids() : tokens_.replica_ids();
  stage_.permute(ids, tokens_.x(), tokens_.rows(), rank * num_slots_, stream);
}

void VirtualRanks::run_experts(int rank, std::size_t set, cudaStream_t stream) {
  stage_.run(tokens_.x(), tables_[set]->weights().from(rank * num_slots_), stream);
}

void VirtualRanks::run_combine(cudaStream_t stream) {
  stage_.combine(tokens_.topk_weights(), tokens_.rows(), out_.get(), stream);
}

void VirtualRanks::run_layer(metro::cuda::Router* router, int rank, std::size_t set,
                             cudaStream_t stream) {
  tokens_.run_gate(stream);
  if (router != nullptr) tokens_.run_route(*router, stream);
  tokens_.run_shared(stream);
  run_permute(rank, stream);
  run_experts(rank, set, stream);
  run_combine(stream);
}

}  // namespace metro::layer_bench::cuda
