// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "metro/sweep.hpp"
#include "serving/arguments.hpp"
#include "serving/files.hpp"

namespace metro::sweeping {

/// One configuration of the grid.
struct Point {
  std::vector<std::string> values;  ///< of the axes
  serving::Arguments arguments;
  std::string key;  ///< what its result depends on, files' bytes included
};

/// All points; the last axis varies fastest. Throws as `sweep` does before anything runs, and has
/// read every file once it returns, so that threads may ask `files` for them.
std::vector<Point> make_points(const SweepSpec& spec, serving::Files& files);

}  // namespace metro::sweeping
