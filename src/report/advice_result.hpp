// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "metro/advise.hpp"
#include "report/table.hpp"

namespace metro::report {

/// Adds what was served, "advice" and "rows" (docs/advise.md).
void append_advice(nlohmann::ordered_json& result, const SimulationConfig& serving,
                   const Advice& advice);

/// The same for people: what to do, the two sentences, the table.
std::string advice_table(const SimulationConfig& serving, const Advice& advice, double wall_s,
                         int width = kAnyWidth);

/// Adds "min_gpus" (the least that keep the SLO, or null) and "fleets".
void append_fleets(nlohmann::ordered_json& result, const std::vector<FleetPoint>& fleets);

/// The same for people, to stand below advice_table's text.
std::string fleet_table(const std::vector<FleetPoint>& fleets);

}  // namespace metro::report
