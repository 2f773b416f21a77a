// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "report/compare_result.hpp"

namespace metro::report {

/// The report of `metro compare` as one HTML page that needs nothing else: style, script and
/// Chart.js are inside. The headline tables are plain HTML; the map and the chart need JavaScript.
std::string compare_page(const CompareSpec& spec, const std::vector<TraceComparison>& comparisons);

}  // namespace metro::report
