// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string_view>

#include "core/layer_timing.hpp"

namespace metro::io {

/// The result of `metro bench layer --json`. Throws Error{kInput} that names the field.
LayerTimings read_layer_result(const std::filesystem::path& path);

/// The same over text in memory; `file` names it in messages.
LayerTimings parse_layer_result(std::string_view text, std::string_view file);

}  // namespace metro::io
