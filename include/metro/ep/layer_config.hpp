// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "metro/dispatch.hpp"
#include "metro/model.hpp"
#include "metro/policy_names.hpp"
#include "metro/router.hpp"

namespace metro::ep {

using metro::Dispatch;

/// How the partial outputs of all-gathered tokens get back to the token's rank.
enum class Combine : std::uint8_t {
  kReduceScatter,  ///< a row from every GPU for every token
  kAllToAll        ///< a row from each GPU that served the token, as in the paper
};

enum class ExpertSharding : std::uint8_t {
  kExpertParallel,  ///< a GPU holds whole experts, as the placement says
  kTensorSharded    ///< moe-TP: every GPU holds 1/G of every expert; no placement, no routing
};

using metro::to_string;  // of a Dispatch
/// "reduce-scatter" or "all-to-all".
std::string_view to_string(Combine combine) noexcept;
/// "ep" or "moe-TP".
std::string_view to_string(ExpertSharding sharding) noexcept;

/// What one MoE layer computes: shapes, gate, and the number format of the experts' weights.
struct LayerShape {
  int hidden = 0;
  int intermediate = 0;  ///< of one expert
  int num_experts = 0;
  int topk = 0;
  int shared_intermediate = 0;  ///< of all shared experts together; 0: none
  GateConfig gate{};
  DataType weights = DataType::kFloat32;

  /// Weights of one routed expert (gate, up and down projection).
  [[nodiscard]] std::int64_t expert_parameters() const noexcept {
    return std::int64_t{3} * hidden * intermediate;
  }
  [[nodiscard]] std::int64_t expert_bytes() const noexcept {
    return static_cast<std::int64_t>(static_cast<double>(expert_parameters()) *
                                     bytes_per_value(weights));
  }

  /// Throws Error{kInput} naming the field, its value and what would be right.
  void validate() const;
};

/// The layer of a model, with weights as the model has them.
LayerShape layer_shape(const ModelConfig& model);

/// How a layer runs; equal on all ranks.
struct LayerOptions {
  std::string policy{kDefaultPolicy};  ///< a name of metro::policies()
  RouteOptions route{};
  Dispatch dispatch = Dispatch::kAllGather;
  Combine combine = Combine::kReduceScatter;  ///< all-to-all dispatch has only one
  ExpertSharding sharding = ExpertSharding::kExpertParallel;
  /// GPUs of a sharded group: ranks i * shards + j, of which each holds part j of the width of
  /// every replica that the placement, which is over the groups, gives to group i. CPU ranks only.
  int shards = 1;
};

}  // namespace metro::ep
