// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace metro::report {

/// A result, and what to call it: its file, or the command that makes it.
struct NamedResult {
  std::string name;
  nlohmann::ordered_json result;
};

/// One page, complete without network, of any of our results, in their order. The same results give
/// the same bytes. Throws Error{kInput} that names the result which is not as its command writes
/// it.
std::string report_page(const std::vector<NamedResult>& results);

}  // namespace metro::report
