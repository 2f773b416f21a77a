// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>

#include "metro/model.hpp"

namespace metro::io {

/// io::load_model_config over text in memory; `file` names it in messages, `name` the model.
ModelConfig parse_model_config(std::string_view text, std::string_view file, std::string name);

}  // namespace metro::io
