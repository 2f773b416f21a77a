// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace metro {

struct DeviceRouteShape {
  int experts;
  int gpus;
  int replicas;
  int tokens;
  int topk;
};

/// What a kernel took on a GPU: a router, or what routers are compared with.
struct DeviceRouteRow {
  DeviceRouteShape shape;
  std::string input;  ///< "uniform" or "skewed"
  std::string kernel;
  double median_us = 0;      ///< of one call in a CUDA graph
  double max_activated = 0;  ///< mean over inputs; 0: not a router
  double moves = 0;          ///< of the solver, mean over inputs
};

}  // namespace metro
