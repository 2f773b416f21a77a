// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>

#include "metro/simulate.hpp"
#include "sim/engine.hpp"
#include "sim/expert_times.hpp"

namespace metro::sim {

enum class EngineRole : std::uint8_t {
  kDecode,  ///< decodes, and prefills unless another engine does
  kPrefill  ///< hands requests on with their first token
};

/// What an engine is made from.
struct EnginePart {
  EngineSetup setup;
  std::unique_ptr<ExpertTimes> experts;
  MemoryUse memory;
};

/// An engine of `gpus` GPUs, with placement and tables from the cache where it has them.
EnginePart build_engine(const SimulationConfig& config, SimulationCache& cache, int gpus,
                        EngineRole role);

/// Seconds that a prompt token's keys and values take from prefill to decode GPUs.
double kv_transfer_s_per_token(const SimulationConfig& config, const MemoryUse& prefill,
                               const MemoryUse& decode);

}  // namespace metro::sim
