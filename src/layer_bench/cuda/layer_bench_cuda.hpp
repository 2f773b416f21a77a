// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "layer_bench/layer_bench.hpp"
#include "metro/ep/transport.hpp"

namespace metro::layer_bench::cuda {

/// Times the layer on GPUs, one row for each combination of the lists and policy; EPLB off and
/// moe-TP depend on no ratio, so they come once for each model, dtype, GPUs and tokens.
///
/// - With `ranks`, the processes of a job: real ranks, which must be as many as `options.gpus` asks
///   for; each takes the GPU of its number on its machine.
/// - One process (`ranks` is null), and as many GPUs as it sees: real ranks, a thread each.
/// - Else virtual ranks on the current GPU (all-gather dispatch only): their expert stages in turn,
///   the slowest counts, communication is not included, and the evidence is "emulated".
///
/// Weights are random, and as many copies of the layer take turns as memory has room for, up to 4,
/// so that no run finds the last one's weights in the L2 cache; `weight_gb` and `threads` are not
/// used. Nothing on ranks other than 0. Throws Error{kUsage}, {kInfeasible}, {kDevice}.
std::optional<LayerBenchResult> run_layer_bench_cuda(const LayerBenchOptions& options,
                                                     ep::Transport* ranks = nullptr);

}  // namespace metro::layer_bench::cuda
