// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "metro/ep/transport.hpp"

namespace metro::ep {

/// This rank's number among those of its machine, by the name that the machine gives itself: which
/// of its GPUs is ours. Collective.
int node_rank(Transport& ranks);

}  // namespace metro::ep
