// SPDX-License-Identifier: Apache-2.0
#include "cost/engine.hpp"

#include <algorithm>

#include "core/lower_case.hpp"
#include "io/builtin_constants.hpp"

namespace metro::cost {
namespace {

const EngineConstants* find(const std::vector<EngineConstants>& engines, std::string_view name) {
  const auto found = std::ranges::find_if(
      engines, [&](const EngineConstants& e) { return equal_ignoring_case(e.name, name); });
  return found == engines.end() ? nullptr : &*found;
}

}  // namespace

EngineConstants engine_constants(std::string_view name, const Calibration* calibration) {
  if (calibration != nullptr) {
    if (const auto* engine = find(calibration->engines, name)) return *engine;
  }
  const EngineList& builtin = io::builtin_engines();
  const auto* engine = find(builtin.engines, name);
  return engine != nullptr ? *engine : builtin.average;
}

}  // namespace metro::cost
