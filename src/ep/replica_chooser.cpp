// SPDX-License-Identifier: Apache-2.0
#include "ep/replica_chooser.hpp"

#include <algorithm>
#include <numeric>

namespace metro::ep {
namespace {

std::size_t size_of(TopkView topk) {
  return static_cast<std::size_t>(topk.num_tokens) * static_cast<std::size_t>(topk.topk);
}

/// Whether each rank holds just the rows that source_rank() says are its own.
bool hold_their_rows(std::span<const int> tokens_per_rank) {
  const int ranks = static_cast<int>(tokens_per_rank.size());
  const int total = std::accumulate(tokens_per_rank.begin(), tokens_per_rank.end(), 0);
  int row = 0;
  for (int rank = 0; rank < ranks; ++rank) {
    const int tokens = tokens_per_rank[static_cast<std::size_t>(rank)];
    if (tokens > 0 && (source_rank(row, total, ranks) != rank ||
                       source_rank(row + tokens - 1, total, ranks) != rank)) {
      return false;
    }
    row += tokens;
  }
  return true;
}

}  // namespace

ReplicaChooser::ReplicaChooser(const LayerPlacement& placement, std::string_view policy,
                               const RouteOptions& options, int shards)
    : router_(placement, policy, options),
      policy_(require_policy(policy)),
      num_experts_(placement.num_experts),
      is_grouped_(shards > 1),
      slots_(static_cast<std::size_t>(placement.num_experts), kMasked) {}

PolicyNeeds ReplicaChooser::needs(std::span<const int> tokens_per_rank) const noexcept {
  const bool counts_others = policy_.needs == PolicyNeeds::kOwnRows && policy_.counts_tokens &&
                             (is_grouped_ || !hold_their_rows(tokens_per_rank));
  return counts_others ? PolicyNeeds::kIds : policy_.needs;
}

void ReplicaChooser::share(TopkView own, std::span<const int> tokens_per_rank,
                           Transport& transport) {
  const PolicyNeeds shared = needs(tokens_per_rank);
  if (shared == PolicyNeeds::kBitmap) {
    share_activation(own, transport);
    return;
  }
  const auto topk = static_cast<std::size_t>(own.topk);
  const auto before = tokens_per_rank.first(static_cast<std::size_t>(transport.rank()));
  first_id_ = static_cast<std::size_t>(std::accumulate(before.begin(), before.end(), 0)) * topk;
  global_.topk = own.topk;
  global_.num_tokens = std::accumulate(tokens_per_rank.begin(), tokens_per_rank.end(), 0);
  global_.ids.assign(size_of(global_.view()), kMasked);
  replica_ids_.resize(global_.ids.size());
  if (shared == PolicyNeeds::kIds) {
    share_ids(own, tokens_per_rank, transport);
  } else {
    std::ranges::copy(own.ids, global_.ids.begin() + static_cast<std::ptrdiff_t>(first_id_));
  }
}

void ReplicaChooser::share_activation(TopkView own, Transport& transport) {
  const auto ranks = static_cast<std::size_t>(transport.size());
  const std::size_t bytes = (slots_.size() + 7) / 8;
  std::vector<std::uint8_t> mine(bytes);
  for (const std::int32_t id : own.ids) {
    if (id < 0 || id >= num_experts_) continue;
    const auto expert = static_cast<std::size_t>(id);
    mine[expert / 8] = static_cast<std::uint8_t>(mine[expert / 8] | (1U << (expert % 8)));
  }
  activation_.resize(ranks * bytes);
  transport.all_gather(std::as_bytes(std::span(mine)),
                       std::as_writable_bytes(std::span(activation_)),
                       std::vector<std::size_t>(ranks, bytes));
  active_.clear();
  for (std::size_t expert = 0; expert < slots_.size(); ++expert) {
    unsigned bits = 0;
    for (std::size_t r = 0; r < ranks; ++r) bits |= activation_[r * bytes + expert / 8];
    if ((bits >> (expert % 8) & 1U) != 0) active_.push_back(static_cast<std::int32_t>(expert));
  }
  replica_ids_.resize(active_.size());
}

void ReplicaChooser::share_ids(TopkView own, std::span<const int> tokens_per_rank,
                               Transport& transport) {
  std::vector<std::size_t> bytes;
  for (const int tokens : tokens_per_rank) {
    bytes.push_back(static_cast<std::size_t>(tokens) * static_cast<std::size_t>(own.topk) *
                    sizeof(std::int32_t));
  }
  transport.all_gather(std::as_bytes(own.ids), std::as_writable_bytes(std::span(global_.ids)),
                       bytes);
}

void ReplicaChooser::route_own(TopkView own, std::span<std::int32_t> replica_ids) noexcept {
  if (policy_.needs != PolicyNeeds::kBitmap) {
    router_.route(global_.view(), replica_ids_);
    std::copy_n(replica_ids_.begin() + static_cast<std::ptrdiff_t>(first_id_), size_of(own),
                replica_ids.begin());
    return;
  }
  // Each active expert once stands for the whole batch: such a policy asks no more of it.
  router_.route({active_, static_cast<int>(active_.size()), 1}, replica_ids_);
  for (std::size_t i = 0; i < active_.size(); ++i) {
    slots_[static_cast<std::size_t>(active_[i])] = replica_ids_[i];
  }
  for (std::size_t i = 0; i < own.ids.size(); ++i) {
    const bool is_expert = own.ids[i] >= 0 && own.ids[i] < num_experts_;
    replica_ids[i] = is_expert ? slots_[static_cast<std::size_t>(own.ids[i])] : kMasked;
  }
}

}  // namespace metro::ep
