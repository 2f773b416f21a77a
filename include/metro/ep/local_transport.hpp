// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>

#include "metro/ep/transport.hpp"

namespace metro::ep {

/// Runs `work` once per rank, each on a thread of its own, and returns when all have returned.
///
///     run_local_ranks(4, 30, [&](Transport& transport) { ... });
///
/// A rank that throws ends the others at their next collective; its error is rethrown. A rank that
/// keeps others waiting for `timeout_s` seconds ends them too, with Error{kDevice} that names it.
/// It is then left running, for threads cannot be ended: what `work` refers to must live as long
/// as it does. `work` is copied.
void run_local_ranks(int num_ranks, double timeout_s, const std::function<void(Transport&)>& work);

}  // namespace metro::ep
