// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "layer_bench/layer_bench.hpp"
#include "metro/ep/transport.hpp"

/// Ranks of a bench: threads of this process, or processes that mpirun started.
namespace metro::layer_bench {

/// The ranks of the job that mpirun started this process for; null in a process of its own, which
/// needs no MPI. Throws Error{kDevice} for a job of several in a build without MPI.
std::unique_ptr<ep::Transport> started_ranks(double timeout_s);

/// Runs this rank's part of what started ranks do together. Ranks that see the same fault throw it
/// one after the other, so that the first one's line is the only one: mpirun ends the rest as soon
/// as a rank has failed. Meanwhile SIGTERM, which is how mpirun ends a job that lost a rank, exits
/// with 5 after one line on stderr of one rank of each node.
std::optional<LayerBenchResult> speak_in_turn(
    ep::Transport& ranks, const std::function<std::optional<LayerBenchResult>()>& work);

/// The CPU bench with ranks that take turns in one, or as many threads as `options.gpus` says.
LayerBenchResult bench_in_turn(const LayerBenchOptions& options);
LayerBenchResult bench_on_threads(const LayerBenchOptions& options);

/// The CPU bench on the ranks of mpirun, each of which calls this; the first gets the result. An
/// empty `options.gpus` means as many as were started. Throws Error{kUsage} where that is one,
/// Error{kDevice} in a build without MPI.
std::optional<LayerBenchResult> bench_on_mpi_ranks(LayerBenchOptions options);

}  // namespace metro::layer_bench
