// SPDX-License-Identifier: Apache-2.0
#include "sim/simulation_cache.hpp"

namespace metro {

SimulationCache::SimulationCache() : parts_(std::make_unique<Parts>()) {}
SimulationCache::~SimulationCache() = default;

}  // namespace metro
