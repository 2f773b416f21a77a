// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "metro/sweep.hpp"

namespace metro::sweeping {

/// The ranks that mpirun started, the first of which writes; null where it did not start this
/// process with others. Starts MPI, and ends it with the workers. In `metro::sweep_mpi`, so that
/// the library needs no MPI.
std::unique_ptr<SweepWorkers> join_mpi_workers();

}  // namespace metro::sweeping
