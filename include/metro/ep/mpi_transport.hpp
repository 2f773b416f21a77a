// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>

#include "metro/ep/transport.hpp"

namespace metro::ep {

/// Whether this build has MPI.
bool has_mpi() noexcept;

/// The processes that mpirun started, one rank each.
///
/// Starts MPI, and ends it when the transport goes, unless a call failed: then the process must
/// end, with a status that is not 0, so that mpirun ends the others. One per process.
/// Blocks go from rank to rank with MPI_Isend and MPI_Irecv rather than in MPI's own collectives,
/// so that a rank that does not answer can be named. Throws Error{kDevice} when MPI fails, and in a
/// build without MPI.
std::unique_ptr<Transport> make_mpi_transport(double timeout_s);

}  // namespace metro::ep
