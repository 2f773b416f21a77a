// SPDX-License-Identifier: Apache-2.0
// What takes the place of mpi_transport.cpp where there was no MPI at build time.
#include "metro/ep/mpi_transport.hpp"
#include "metro/error.hpp"

namespace metro::ep {

bool has_mpi() noexcept { return false; }

std::unique_ptr<Transport> make_mpi_transport(double /*timeout_s*/) {
  throw Error(ErrorCode::kDevice,
              "this build has no MPI: install one (Debian: libopenmpi-dev) and build metro again");
}

}  // namespace metro::ep
