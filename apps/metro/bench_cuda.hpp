// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>

#include "metro/policy_names.hpp"

namespace metro::cli {

struct CudaBenchOptions {
  std::string algorithm{kHomedAlgorithm};  ///< placement
  std::uint64_t seed = 0;
  bool exchange = false;  ///< also time ranks that exchange their activity
  bool json = false;
};

/// `metro bench route --device cuda`: times every device policy on the current GPU, next to an
/// empty kernel and to a mapping kernel as engines have it, and prints the table or the result.
/// Only where METRO_HAVE_CUDA is defined. Throws Error{kDevice} without a GPU.
void bench_route_cuda(const CudaBenchOptions& options);

}  // namespace metro::cli
