// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "metro/cost.hpp"

namespace metro::cost {

/// What weights and KV cache take of one GPU's memory.
MemoryUse memory_use(const ModelConfig& model, const GpuSpec& gpu, const Deployment& deployment);

}  // namespace metro::cost
