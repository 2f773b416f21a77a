// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "metro/advise.hpp"
#include "report/table.hpp"

namespace metro::report {

/// Adds what was served, "advice" and "rows" (docs/advise.md).
void append_advice(nlohmann::ordered_json& result, const SimulationConfig& serving,
                   const Advice& advice);

/// The same for people: what to do, the two sentences, the table.
std::string advice_table(const SimulationConfig& serving, const Advice& advice, double wall_s,
                         int width = kAnyWidth);

}  // namespace metro::report
