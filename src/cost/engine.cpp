// SPDX-License-Identifier: Apache-2.0
#include "cost/engine.hpp"

#include <algorithm>
#include <array>

#include "core/lower_case.hpp"

namespace metro::cost {
namespace {

const std::array<EngineConstants, 4>& table() {
  // clang-format off
  static const std::array<EngineConstants, 4> engines = {{
#include "cost/engine_table.inc"
  }};
  // clang-format on
  return engines;
}

template <typename Range>
const EngineConstants* find(const Range& engines, std::string_view name) {
  const auto found = std::ranges::find_if(
      engines, [&](const EngineConstants& e) { return equal_ignoring_case(e.name, name); });
  return found == engines.end() ? nullptr : &*found;
}

}  // namespace

EngineConstants engine_constants(std::string_view name, const Calibration* calibration) {
  if (calibration != nullptr) {
    if (const auto* engine = find(calibration->engines, name)) return *engine;
  }
  if (const auto* engine = find(table(), name)) return *engine;
  return *find(table(), "");
}

}  // namespace metro::cost
