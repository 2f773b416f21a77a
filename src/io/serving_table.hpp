// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string_view>
#include <vector>

#include "core/serving_point.hpp"

namespace metro::io {

/// A CSV of measured serving points; columns are found by their names in the header, others are
/// passed over. Throws Error{kInput} with line and column name.
std::vector<ServingPoint> read_serving_table(const std::filesystem::path& path);

/// The same over text in memory; `file` names it in messages.
std::vector<ServingPoint> parse_serving_table(std::string_view text, std::string_view file);

}  // namespace metro::io
