// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cuda_runtime_api.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string_view>

#include "metro/cuda/engine_maps.hpp"
#include "metro/cuda/exchange.hpp"
#include "metro/placement.hpp"
#include "metro/policy_names.hpp"

namespace metro::cuda {

struct RouterOptions {
  std::string_view policy = kDefaultPolicy;  ///< one whose PolicyInfo::device is set
  int max_tokens = 0;                        ///< rows of the largest batch, up to 65,536
  int topk = 0;                              ///< 1 to 32
  int max_replicas = 0;  ///< slots of the largest placement that `update` may bring; 0: as now
  /// Lets the kernel start before the one in front of it in the stream has ended (programmatic
  /// dependent launch; no effect in code compiled for less than compute capability 9.0): it fetches
  /// its tables meanwhile and waits for that kernel before it reads ids or writes. It waits for
  /// that one alone. So a kernel in front that triggers its dependents early (griddepcontrol) must
  /// itself wait for what came before it; one that never does may end first, and ids or buffers of
  /// still earlier kernels are then not safe. It saves time only in graphs and streams of kernels.
  bool programmatic_launch = false;
};

/// What a call may be given besides the ids; all pointers are on the device, null: not wanted.
struct RouteExtras {
  /// Rows beyond `*num_valid_tokens` are padding: they become -1 and activate nothing.
  const std::int32_t* num_valid_tokens = nullptr;
  /// Makes the experts of all ranks count, for callers without the global batch. `optimal`, `metro`
  /// and `metro-paper` only: the others need none.
  Exchange* exchange = nullptr;
  /// Serves by an engine's maps, in the same kernel; read during the call alone, its pointers by
  /// the kernel. `optimal`, `metro` and `metro-paper` only, without `exchange` and
  /// `tokens_per_replica`, and `replica_ids` must not be `topk_ids`: else Error{kUsage}.
  const EngineMaps* engine = nullptr;

  std::int32_t* activated_per_gpu = nullptr;   ///< [gpus] replicas that got a token
  std::int32_t* max_activated = nullptr;       ///< [1]
  std::int32_t* tokens_per_replica = nullptr;  ///< [max_replicas] tokens, by slot
  bool accumulate_tokens = false;     ///< add to `tokens_per_replica`, as EPLB's statistics do
  std::int32_t* num_moves = nullptr;  ///< [1] repairs that `optimal` made to its base
  std::int32_t* tokens_per_rank = nullptr;  ///< [ranks] valid rows of each rank; -1: not known
};

/// metro::Router on the GPU for all layers of a model: the same replicas, bit for bit.
///
///     metro::cuda::Router router(placement, {.max_tokens = 256, .topk = 8});
///     router.route(layer, topk_ids, num_tokens, replica_ids, stream);
///
/// `route` only enqueues kernels (one, up to 8,192 ids): no synchronisation, no allocation, launch
/// shapes that depend on `num_tokens` alone, so it can be captured in a CUDA graph; pointers stay
/// valid for the router's life. Calls share a workspace: order them in one stream (or by events).
/// Up to 1,024 experts, 64 GPUs, 8,192 replicas a layer. Belongs to the device that is current when
/// it is made. Exchanged activity needs all ranks to make the same calls in the same order.
class Router {
 public:
  /// Throws Error{kUsage} for bad options, {kInput} for an invalid placement, {kInfeasible} for one
  /// beyond the limits above, {kDevice} with CUDA's words.
  Router(const Placement& placement, const RouterOptions& options);
  ~Router();
  Router(Router&&) noexcept;
  Router& operator=(Router&&) noexcept;

  /// Writes the replica of each of the num_tokens * topk ids; `replica_ids` may be `topk_ids`. Any
  /// id that is not an expert becomes -1. Throws Error{kUsage} for a layer or a number of tokens
  /// out of range, {kDevice} when a launch fails.
  void route(int layer, const std::int32_t* topk_ids, int num_tokens, std::int32_t* replica_ids,
             cudaStream_t stream, const RouteExtras& extras = {});
  void route(int layer, const std::int64_t* topk_ids, int num_tokens, std::int64_t* replica_ids,
             cudaStream_t stream, const RouteExtras& extras = {});

  /// Replaces a layer's placement for all later work in `stream`, graph replays included, by one
  /// copy from pinned memory. Waits only if this layer's previous update is still being copied. Not
  /// to be captured. Throws Error{kInput} for a placement that is invalid or does not fit.
  void update(int layer, const LayerPlacement& placement, cudaStream_t stream);

  [[nodiscard]] std::size_t workspace_bytes() const noexcept;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace metro::cuda
