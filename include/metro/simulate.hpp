// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "metro/cost.hpp"
#include "metro/gpu.hpp"
#include "metro/model.hpp"
#include "metro/policy_names.hpp"
#include "metro/requests.hpp"
#include "metro/trace.hpp"

namespace metro {

/// How closely the routed experts of a step are followed; all else is the same in both.
enum class Fidelity : std::uint8_t {
  kFull,  ///< every layer of every step is routed
  kTable  ///< steps draw from distributions by batch size, which are routed when first met
};

/// In place of a policy: for each batch size the one of `home`, `optimal` and `hybrid` that takes
/// least time, its router's included. Decided before the batch, from what batches of that size cost
/// on average; where nothing is gained, `home` (docs/simulator.md).
inline constexpr std::string_view kAutoPolicy = "auto";

/// A serving system and the requests that it gets.
struct SimulationConfig {
  ModelConfig model;
  GpuSpec gpu{};
  Deployment deployment;  ///< `slots_per_gpu` and `policy` follow from what is below
  std::shared_ptr<const Calibration> calibration;  ///< may be null

  double replication = 1.0;  ///< replica slots per expert
  std::string algorithm{kHomedAlgorithm};
  std::string policy{kDefaultDecodePolicy};           ///< of steps that only decode; or "auto"
  std::string prefill_policy{kDefaultPrefillPolicy};  ///< of steps with prompt tokens
  std::int64_t rearrange_every = 0;                   ///< steps between new placements; 0: never

  std::shared_ptr<const RoutingTrace> trace;  ///< who chooses experts; null: `profile` does
  std::string profile;                        ///< of a router; empty: the one nearest to the model

  std::vector<Request> requests;  ///< in order of arrival
  int concurrency = 0;            ///< requests kept in flight instead of their arrivals; 0: off

  int max_batch = 0;  ///< requests that run at once, over all attention ranks; 0: as memory allows
  int chunk = 8192;   ///< tokens that an attention rank may take in a step
  int draft_tokens = 0;           ///< drafted and verified by every decode step of a request
  double draft_acceptance = 0.7;  ///< chance that a draft is right, given that those before it are
  int prefill_gpus = 0;           ///< GPUs that only prefill, of `deployment.gpus`; 0: all do both

  Fidelity fidelity = Fidelity::kTable;
  double slo_tpot_ms = 0;  ///< 0: none
  double slo_ttft_ms = 0;
  std::uint64_t seed = 0;
  std::int64_t timeline_steps = 0;  ///< steps to note in the result's timeline, from the first on

  /// Throws Error{kUsage} that names the field, its value and what would be right.
  void validate() const;
};

/// Mean and percentiles; 0 where nothing was counted.
struct Percentiles {
  double mean = 0;
  double p50 = 0;
  double p90 = 0;
  double p99 = 0;
};

/// Something a GPU did, for a timeline.
struct TimelineSlice {
  std::string name;
  int gpu = 0;
  double start_us = 0;
  double duration_us = 0;
  std::int64_t step = 0;
  int layer = -1;     ///< -1: of no MoE layer
  int activated = 0;  ///< replicas, for experts
  std::int64_t tokens = 0;
  bool straggler = false;  ///< the layer's slowest GPU
};

/// What came of it.
struct SimulationResult {
  std::int64_t submitted = 0;
  std::int64_t completed = 0;
  std::int64_t rejected = 0;  ///< beyond the model's context, or beyond an attention rank's memory
  std::int64_t prompt_tokens = 0;  ///< of completed requests
  std::int64_t output_tokens = 0;
  std::int64_t preemptions = 0;
  std::int64_t recomputed_tokens = 0;  ///< prompt and answer tokens computed again after one
  std::int64_t steps = 0;

  Percentiles ttft_ms;  ///< arrival to first token, queueing included
  Percentiles tpot_ms;  ///< (last - first token) / (tokens - 1), by request with two tokens or more
  Percentiles itl_ms;   ///< between adjacent tokens; tokens of one step share its time equally
  Percentiles latency_ms;  ///< arrival to last token

  double simulated_s = 0;  ///< from time 0 to the last token
  double output_tokens_per_s = 0;
  double total_tokens_per_s = 0;      ///< prompt and output
  double goodput_requests_per_s = 0;  ///< completed requests that kept all SLOs
  double mean_in_flight = 0;          ///< requests that arrived and are not complete, over time
  double mean_batch = 0;              ///< requests of a step that only decodes
  double kv_use = 0;                  ///< share of the KV capacity in use, over time
  double kv_use_peak = 0;
  double max_activated = 0;          ///< replicas of the busiest GPU, over decode steps and layers
  double max_activated_prefill = 0;  ///< the same over steps with prompt tokens
  double rearranged_bytes = 0;       ///< by the busiest GPU, summed over rearrangements

  std::vector<std::pair<std::string, double>> stage_share;  ///< of the time of all steps; sums to 1
  int decode_gpus = 0;
  int prefill_gpus = 0;                 ///< 0: all do both
  MemoryUse memory;                     ///< of a GPU that decodes
  std::int64_t kv_capacity_tokens = 0;  ///< of all attention ranks that decode
  std::vector<TimelineSlice> timeline;
};

/// What runs can share: routing traces, placements and tables of expert times. Any number of
/// threads; results do not depend on what else a cache served.
class SimulationCache {
 public:
  SimulationCache();
  SimulationCache(const SimulationCache&) = delete;
  SimulationCache& operator=(const SimulationCache&) = delete;
  ~SimulationCache();

  struct Parts;
  [[nodiscard]] Parts& parts() noexcept { return *parts_; }

 private:
  std::unique_ptr<Parts> parts_;
};

/// Serves the requests with continuous batching and chunked prefill, step by step
/// (docs/simulator.md).
///
///     metro::SimulationResult result = metro::simulate(config);
///
/// The same configuration gives the same result, bit for bit. `progress(done, total)` counts
/// requests. Throws as `validate`; Error{kInput} for a trace that does not fit the model;
/// Error{kInfeasible} when no memory is left for a context, or no request can be served.
SimulationResult simulate(const SimulationConfig& config, SimulationCache* cache = nullptr,
                          const std::function<void(std::size_t, std::size_t)>& progress = {});

}  // namespace metro
