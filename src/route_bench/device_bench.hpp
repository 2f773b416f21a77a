// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "metro/policy_names.hpp"
#include "replay/device_route_row.hpp"

namespace metro::route_bench {

struct DeviceBenchOptions {
  std::string algorithm{kHomedAlgorithm};  ///< placement
  std::uint64_t seed = 0;
  bool exchange = false;  ///< also time ranks that exchange their activity
};

/// Times every device policy on the current GPU, next to an empty kernel and to a mapping kernel as
/// engines have it. Throws Error{kDevice} without a GPU. `progress(done, total)` counts shapes.
std::vector<DeviceRouteRow> bench_device_routes(
    const DeviceBenchOptions& options,
    const std::function<void(std::size_t, std::size_t)>& progress = {});

}  // namespace metro::route_bench
