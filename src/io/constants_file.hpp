// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "core/engine_list.hpp"
#include "core/gpu_list.hpp"
#include "core/kernel_constants.hpp"

/// The files of data/constants (schemas: docs/schemas/{gpus,engines,kernels}.json). Each function
/// throws Error{kInput} that names `file`, the field, its value and what would be right. "source"
/// is for people and is not read.
namespace metro::io {

/// Files of a later version are refused.
inline constexpr int kConstantsVersion = 1;

GpuList parse_gpus(std::string_view text, std::string_view file);
EngineList parse_engines(std::string_view text, std::string_view file);
KernelConstants parse_kernels(std::string_view text, std::string_view file);

}  // namespace metro::io
