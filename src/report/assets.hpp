// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

/// Files that the build embeds for report pages (CMakeLists.txt of this folder).
namespace metro::report {

/// Chart.js with its licence notice, or empty where the build did not find it.
std::string_view chart_js();
std::string_view page_css();
std::string_view plot_js();
std::string_view compare_js();

}  // namespace metro::report
