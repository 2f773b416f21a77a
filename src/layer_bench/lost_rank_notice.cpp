// SPDX-License-Identifier: Apache-2.0
#include "layer_bench/lost_rank_notice.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <exception>
#include <string>

#include "metro/error.hpp"

namespace metro::layer_bench {
namespace {

// What a signal handler may touch: set before it is installed.
int* spoken = nullptr;  // in memory that the ranks of this node share
std::string line;

bool is_first_to_speak() noexcept { return std::atomic_ref<int>(*spoken).exchange(1) == 0; }

extern "C" void end_after_a_lost_rank(int /*signal*/) {
  if (is_first_to_speak()) {
    // Nothing is left to be done where even this fails.
    [[maybe_unused]] const ssize_t written = ::write(STDERR_FILENO, line.data(), line.size());
  }
  ::_exit(static_cast<int>(ErrorCode::kDevice));
}

void check(int status, const char* call) {
  if (status == MPI_SUCCESS) return;
  throw Error(ErrorCode::kDevice, fmt::format("{} failed with {}", call, status));
}

}  // namespace

LostRankNotice::LostRankNotice(int rank, int size) {
  check(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node_),
        "MPI_Comm_split_type");
  int node_rank = 0;
  check(MPI_Comm_rank(node_, &node_rank), "MPI_Comm_rank");
  void* memory = nullptr;
  const MPI_Aint own_bytes = node_rank == 0 ? sizeof(int) : 0;
  check(MPI_Win_allocate_shared(own_bytes, sizeof(int), MPI_INFO_NULL, node_, &memory, &window_),
        "MPI_Win_allocate_shared");
  MPI_Aint bytes = 0;
  int unit = 0;
  check(MPI_Win_shared_query(window_, 0, &bytes, &unit, &memory), "MPI_Win_shared_query");
  spoken = static_cast<int*>(memory);
  if (node_rank == 0) *spoken = 0;
  check(MPI_Barrier(node_), "MPI_Barrier");
  line = fmt::format(
      "metro: rank {} of {} was ended by mpirun: another rank is lost, or the job was told to "
      "stop\n",
      rank, size);
  std::signal(SIGTERM, end_after_a_lost_rank);
}

LostRankNotice::~LostRankNotice() {
  if (std::uncaught_exceptions() > 0) return;  // the fault may be a rank that cannot take part
  std::signal(SIGTERM, SIG_DFL);
  spoken = nullptr;
  MPI_Win_free(&window_);
  MPI_Comm_free(&node_);
}

void LostRankNotice::claim() noexcept {
  if (spoken != nullptr) static_cast<void>(is_first_to_speak());
}

}  // namespace metro::layer_bench
