// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "metro/simulate.hpp"

namespace metro::report {

/// Adds what was simulated, with defaults filled in: "model", "gpu", "gpus", "tp", "ep", ...
void append_configuration(nlohmann::ordered_json& result, const SimulationConfig& config);

/// Adds what came of it: "requests", "ttft_ms", "tpot_ms", ..., as docs/simulator.md lists them.
void append_simulation(nlohmann::ordered_json& result, const SimulationConfig& config,
                       const SimulationResult& simulated);

/// The same for people.
std::string simulation_table(const SimulationConfig& config, const SimulationResult& simulated,
                             double wall_s);

}  // namespace metro::report
