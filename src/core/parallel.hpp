// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <functional>

namespace metro {

/// Calls work(0) .. work(count - 1), each once, over up to `num_threads` threads (0: one per core),
/// in no fixed order. After an exception no further item starts; the first one is rethrown.
void for_each_parallel(std::size_t count, int num_threads,
                       const std::function<void(std::size_t)>& work);

}  // namespace metro
