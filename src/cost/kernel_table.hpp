// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

#include "core/kernel_constants.hpp"
#include "metro/gpu.hpp"

/// The kernel constants for a GPU, an engine and a number format: what was not measured gets the
/// nearest that was. Read by constructors only; references live as long as the process.
namespace metro::cost {

Architecture architecture_of(const GpuSpec& gpu) noexcept;

/// Matrix products with few rows.
const Roofline& gemm_roofline(Architecture architecture, DataType weights);

/// Attention of one token per request.
const Roofline& attention_roofline(Architecture architecture, std::string_view engine,
                                   AttentionKind kind, DataType kv);

const ExpertKernel& expert_kernel(Architecture architecture, std::string_view engine,
                                  DataType weights);

/// On one domain of fast links; ranks beyond the largest measured number get that one's.
const KernelConstants::CollectiveTime& collective_time(Architecture architecture,
                                                       Collective collective, int ranks);

}  // namespace metro::cost
