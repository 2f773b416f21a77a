// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <string_view>
#include <vector>

#include "metro/advise.hpp"

namespace metro {

/// Replication, as AdviceOptions has it, of so many redundant experts, which is how vLLM and SGLang
/// count: replica slots over all GPUs of an instance beyond one per expert. Throws Error{kUsage}
/// that calls them `name` and says the nearest number, where the GPUs cannot share the replicas
/// equally.
std::vector<double> replication_with(std::string_view name, std::span<const int> redundant,
                                     const SimulationConfig& serving);

/// The other way round: what the candidate's replication comes to, rounded up to whole slots a GPU.
/// Where prefill has GPUs of its own, of the others.
int redundant_experts(const AdviceCandidate& candidate, const SimulationConfig& serving);

}  // namespace metro
