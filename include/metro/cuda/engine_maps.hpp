// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace metro::cuda {

/// A serving engine's own maps of one layer, as vLLM keeps them for EPLB; all pointers are on the
/// device. `Router::route` with them does in its one kernel what the engine does in its own: it
/// maps, records the load, and leaves masked rows alone.
///
/// The engine's maps have the last word. An id gets the router's replica if `*is_live` is not 0 and
/// the engine lists every replica of the expert that the router could choose. Otherwise the
/// engine's rule serves it: the replica at (row * 2654435769 mod 2^32) mod the expert's replicas.
/// So a placement that the router was not told of costs its gain and no output.
///
/// Rows beyond `RouteExtras::num_valid_tokens` repeat valid ones, in turn, and so activate nothing
/// more; where there is none they go by the engine's rule. They are not recorded. An id that is no
/// expert becomes -1, in such a row too.
struct EngineMaps {
  const std::int64_t* expert_to_replicas = nullptr;  ///< [experts][row_stride]
  std::int64_t row_stride = 0;                       ///< entries from one expert's row to the next
  const std::int64_t* num_replicas_of = nullptr;     ///< [experts] entries of a row that count

  std::int32_t* load = nullptr;  ///< [load_size] tokens by replica, added to
  int load_size = 0;
  const bool* is_recording = nullptr;  ///< [1] whether `load` is added to

  const std::int32_t* is_live = nullptr;  ///< [1] 0: the router's placement is known to be old
  /// [2] Ids of valid rows that the router did not serve, added to: while not live; since the maps
  /// differ.
  std::int64_t* faults = nullptr;
  /// [1] A sum over valid rows that is equal on ranks that chose alike, added to; null: none.
  std::int64_t* checksum = nullptr;
};

}  // namespace metro::cuda
