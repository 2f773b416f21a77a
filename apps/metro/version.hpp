// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace metro::cli {

/// "metro 0.1.0", and a line each for the commit, where one is known, and what compiled it.
std::string version_text();

}  // namespace metro::cli
