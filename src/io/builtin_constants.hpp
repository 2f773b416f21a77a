// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "core/engine_list.hpp"
#include "core/gpu_list.hpp"
#include "core/kernel_constants.hpp"

/// data/constants, compiled in: parsed at the first call, by whichever thread makes it, and
/// immutable from then on. A fault in a file, which a test would find, throws Error{kInput} that
/// names it.
namespace metro::io {

const GpuList& builtin_gpus();
const EngineList& builtin_engines();
const KernelConstants& builtin_kernels();

/// The bytes of data/constants/NAME.json.
std::string_view gpus_json();
std::string_view engines_json();
std::string_view kernels_json();

}  // namespace metro::io
