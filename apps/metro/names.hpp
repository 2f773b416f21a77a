// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

/// The library's tables of names, for options and their help.
namespace metro::cli {

std::vector<std::string_view> policy_names();
std::vector<std::string_view> algorithm_names();

/// One "name: rule" per line.
std::string describe_policies();
std::string describe_algorithms();

}  // namespace metro::cli
