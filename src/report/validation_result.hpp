// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cost/validation.hpp"

namespace metro::report {

/// The result of `metro validate --silicon`: the envelope, the errors, and one row a point.
nlohmann::ordered_json validation_result(const cost::Validation& validation, std::uint64_t seed,
                                         const std::vector<std::filesystem::path>& inputs);

/// For people: a line a model and GPU.
std::string validation_table(const cost::Validation& validation);

}  // namespace metro::report
