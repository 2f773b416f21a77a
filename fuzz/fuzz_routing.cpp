// SPDX-License-Identifier: Apache-2.0
// Every policy on a layer and a batch made from the input, against the invariants and max-flow.
// Bytes: experts, GPUs, extra replicas, topk; a GPU for each expert's first replica; an (expert,
// GPU) pair for each extra one; the rest are ids. What is missing reads as 0.
#include <cstdlib>
#include <span>
#include <vector>

#include "metro/metrics.hpp"
#include "metro/router.hpp"
#include "support/max_flow_oracle.hpp"

namespace {

class Bytes {
 public:
  explicit Bytes(std::span<const std::uint8_t> bytes) : bytes_(bytes) {}

  [[nodiscard]] std::size_t left() const { return bytes_.size(); }

  int below(int bound) {
    if (bytes_.empty()) return 0;
    const int value = bytes_.front() % bound;
    bytes_ = bytes_.subspan(1);
    return value;
  }

 private:
  std::span<const std::uint8_t> bytes_;
};

void require(bool holds) {
  if (!holds) std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes bytes(std::span(data, size));
  metro::LayerPlacement placement{1 + bytes.below(40), 1 + bytes.below(10), {}, {}, {}, {}};
  const int num_extra = bytes.below(60);
  const int topk = 1 + bytes.below(6);
  for (int e = 0; e < placement.num_experts; ++e) {
    placement.replica_to_expert.push_back(e);
    placement.replica_to_gpu.push_back(bytes.below(placement.num_gpus));
  }
  for (int i = 0; i < num_extra; ++i) {
    placement.replica_to_expert.push_back(bytes.below(placement.num_experts));
    placement.replica_to_gpu.push_back(bytes.below(placement.num_gpus));
  }
  const int num_tokens = static_cast<int>(bytes.left()) / topk;
  metro::TopkBatch batch{{}, num_tokens, topk};
  for (int i = 0; i < num_tokens * topk; ++i) {
    batch.ids.push_back(bytes.below(placement.num_experts + 1) - 1);
  }

  const int optimum = metro::test::oracle_max_activated(placement, batch);
  metro::MetricsCounter counter(placement);
  for (const metro::PolicyInfo& policy : metro::policies()) {
    std::vector<std::int32_t> replicas(batch.ids.size());
    metro::Router(placement, policy.name).route(batch.view(), replicas);
    for (std::size_t i = 0; i < replicas.size(); ++i) {
      const std::int32_t slot = replicas[i];
      if (batch.ids[i] == metro::kMasked) {
        require(slot == metro::kMasked);
      } else {
        require(slot >= 0 && slot < placement.num_replicas());
        require(placement.replica_to_expert[static_cast<std::size_t>(slot)] == batch.ids[i]);
      }
    }
    const int max_activated = counter.count(replicas).max_activated;
    require(policy.name == "optimal" ? max_activated == optimum : max_activated >= optimum);
  }
  return 0;
}
