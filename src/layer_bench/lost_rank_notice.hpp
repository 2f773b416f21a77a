// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <mpi.h>

namespace metro::layer_bench {

/// Lets the ranks of an MPI job say once why it ends. When a rank is killed, mpirun ends the others
/// with SIGTERM before they can miss it; while a notice lives, the first of them on each node
/// writes one line to stderr, and all exit with 5. mpirun's own status is the killed rank's.
///
/// Collective, between MPI's start and its end. One at a time.
class LostRankNotice {
 public:
  LostRankNotice(int rank, int size);
  ~LostRankNotice();
  LostRankNotice(const LostRankNotice&) = delete;
  LostRankNotice& operator=(const LostRankNotice&) = delete;

  /// This rank is about to tell of a fault itself: the others end without a word.
  static void claim() noexcept;

 private:
  MPI_Comm node_ = MPI_COMM_NULL;
  MPI_Win window_ = MPI_WIN_NULL;
};

}  // namespace metro::layer_bench
