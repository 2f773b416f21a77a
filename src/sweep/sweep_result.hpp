// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "metro/sweep.hpp"
#include "report/table.hpp"

namespace metro::sweeping {

/// The result of `metro sweep`: the envelope, "grid" and "rows".
nlohmann::ordered_json sweep_result(const SweepSpec& spec, const Sweep& sweep);

/// For people: a line a row, with the axes that vary.
std::string sweep_table(const SweepSpec& spec, const Sweep& sweep, int width = report::kAnyWidth);

}  // namespace metro::sweeping
