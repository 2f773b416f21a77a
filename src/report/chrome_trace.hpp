// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "metro/simulate.hpp"

namespace metro::report {

/// A timeline as Chrome trace JSON, which ui.perfetto.dev and chrome://tracing open: a process for
/// each GPU, a slice for each part of a layer; experts carry layer, activated replicas and tokens,
/// and the slowest GPU's are called "experts (straggler)".
std::string chrome_trace(const std::vector<TimelineSlice>& slices);

}  // namespace metro::report
