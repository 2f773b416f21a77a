// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "metro/reproduce.hpp"
#include "metro/simulate.hpp"
#include "reproduce/decode_model.hpp"
#include "reproduce/pairs.hpp"
#include "sim/simulation_cache.hpp"

namespace metro::reproduction {

/// Runs systems on pairs, over threads. Figures that ask for the same run share it.
class Runner {
 public:
  explicit Runner(const ReproduceSpec& spec);

  [[nodiscard]] bool quick() const noexcept { return spec_.quick; }
  /// Replica slots per expert that the paper looks at, ascending.
  [[nodiscard]] const std::vector<double>& replications() const noexcept { return replications_; }
  [[nodiscard]] double most_replication() const noexcept { return replications_.back(); }

  [[nodiscard]] SimulationConfig config(const Pair& pair, const System& system,
                                        double replication) const;

  /// Serves a workload with `in_flight` requests at all times.
  std::shared_ptr<const SimulationResult> serve(const Pair& pair, const System& system,
                                                double replication, const Workload& workload,
                                                int in_flight);

  /// Seconds that one step takes to compute `prompts_per_gpu` prompts on every GPU.
  double prefill_s(const Pair& pair, const System& system, double replication, int prompts_per_gpu,
                   int prompt_tokens);

  DecodeModel decode(const Pair& pair, const System& system, double replication);
  DecodeModel decode(const SimulationConfig& config) { return {config, cache_}; }

  /// The tokens that the pair's decode steps are drawn from.
  [[nodiscard]] std::shared_ptr<const RoutingTrace> routing(const Pair& pair) const;
  [[nodiscard]] std::string routing_name(const Pair& pair) const;

  /// work(0) .. work(count - 1), in no fixed order.
  void for_each(std::size_t count, const std::function<void(std::size_t)>& work) const;

  [[nodiscard]] std::uint64_t seed() const noexcept { return spec_.seed; }
  [[nodiscard]] int num_threads() const noexcept { return spec_.num_threads; }

 private:
  [[nodiscard]] std::shared_ptr<const RoutingTrace> recorded(const Pair& pair) const;

  const ReproduceSpec& spec_;
  std::vector<double> replications_{1.125, 1.25, 1.5};
  SimulationCache cache_;
  sim::SharedByKey<const SimulationResult> served_;
};

}  // namespace metro::reproduction
