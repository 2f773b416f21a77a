// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "serving/option.hpp"

namespace metro::report {

/// The options of a simulation as a Markdown table, as docs/simulator.md has it.
std::string option_table(serving::Spelling spelling);

}  // namespace metro::report
