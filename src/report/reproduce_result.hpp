// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "metro/reproduce.hpp"
#include "report/table.hpp"

namespace metro::report {

/// Adds "quick", "pairs", "rows" and "figures", as docs/reproduce.md lists them.
void append_reproduction(nlohmann::ordered_json& result, const ReproduceSpec& spec,
                         const Reproduction& reproduction);

/// The same for people: paper | ours | evidence, with the rivals beside.
std::string reproduction_table(const Reproduction& reproduction, int width = kAnyWidth);

/// Rivals that tables show beside each row: their keys, and their names.
std::span<const std::pair<std::string_view, std::string_view>> shown_rivals() noexcept;

}  // namespace metro::report
