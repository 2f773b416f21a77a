// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string_view>
#include <utility>

namespace metro::serving {

/// "P:D" as two numbers of GPUs, each at least 1, or nothing.
std::optional<std::pair<int, int>> parse_ratio(std::string_view text) noexcept;

/// GPUs of the prefill pool for "P:D", which gives the pools' GPUs or their ratio. Throws
/// Error{kUsage} that calls it `name` where that does not share out the GPUs.
int prefill_gpus(std::string_view name, std::string_view text, int gpus);

}  // namespace metro::serving
