// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "metro/calibration.hpp"

namespace metro::cost {

/// What an engine adds to its kernels, fitted to public serving measurements
/// (tools/fit_engines.py).
using EngineConstants = Calibration::Engine;

/// The engine's constants, those of `calibration` first; an unknown engine gets an average one's.
EngineConstants engine_constants(std::string_view name, const Calibration* calibration);

}  // namespace metro::cost
