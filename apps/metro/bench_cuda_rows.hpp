// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "bench_cuda.hpp"

/// What `metro bench route --device cuda` prints.
namespace metro::cli {

struct RouteShape {
  int experts;
  int gpus;
  int replicas;
  int tokens;
  int topk;
};

struct RouteRow {
  RouteShape shape;
  std::string input;
  std::string kernel;
  double median_us = 0;
  double max_activated = 0;  // mean over inputs; 0: not a router
  double moves = 0;
};

std::string route_json(const std::vector<RouteRow>& rows, const std::string& device,
                       const CudaBenchOptions& options);
std::string route_text(const std::vector<RouteRow>& rows, const std::string& device);

}  // namespace metro::cli
