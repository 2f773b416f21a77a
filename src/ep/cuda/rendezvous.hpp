// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace metro::ep::cuda {

/// The processes of one job, as whatever started them says.
struct World {
  int rank = 0;
  int size = 1;
  int local_rank = 0;                 ///< among those of the same node: which GPU is ours
  std::string address = "127.0.0.1";  ///< of rank 0
  std::uint16_t port = 29501;         ///< where rank 0 listens
};

/// From RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR and MASTER_PORT (torchrun), else from
/// OMPI_COMM_WORLD_* (mpirun); a world of one when neither is set. We listen one port above
/// MASTER_PORT, which torchrun keeps for itself; METRO_PORT names another. Throws Error{kUsage} for
/// values that make no sense, and for several nodes without MASTER_ADDR.
World world_from_environment();

/// Rank 0's bytes to every other rank, over TCP; collective. Throws Error{kDevice} naming the ranks
/// that did not come within the timeout.
void broadcast(const World& world, std::span<std::byte> bytes, std::chrono::milliseconds timeout);

}  // namespace metro::ep::cuda
