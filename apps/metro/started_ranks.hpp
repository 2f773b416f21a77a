// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "metro/ep/transport.hpp"

namespace metro::cli {

/// The ranks of the job that mpirun started this process for; null in a process of its own, which
/// needs no MPI. Throws Error{kDevice} for a job of several in a build without MPI.
std::unique_ptr<ep::Transport> started_ranks(double timeout_s);

}  // namespace metro::cli
