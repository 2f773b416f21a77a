// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>
#include <vector>

#include "metro/requests.hpp"

namespace metro::io {

/// io::read_requests over text in memory, for tests and fuzzing; `file` names it in messages.
std::vector<Request> parse_requests(std::string_view text, std::string_view file);

}  // namespace metro::io
