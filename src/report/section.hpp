// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace metro::report {

using Json = nlohmann::ordered_json;

/// A part of a page: a heading, and the HTML below it.
struct Section {
  std::string title;
  std::string body;
};

/// What a command's result looks like on a page. Each is one file, NAME_sections.cpp. They throw
/// nlohmann::json::exception for a result that is not as the command writes it.
std::vector<Section> compare_sections(const Json& result);
std::vector<Section> reproduce_sections(const Json& result);
std::vector<Section> serving_sections(const Json& result);  ///< simulate and sweep
std::vector<Section> layer_sections(const Json& result);    ///< bench layer
std::vector<Section> advice_sections(const Json& result);
/// Of any other command: what it says in words, single values, and its rows as a table.
std::vector<Section> plain_sections(const Json& result);

}  // namespace metro::report
