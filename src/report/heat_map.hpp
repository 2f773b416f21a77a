// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "metro/activated_map.hpp"

namespace metro::report {

/// A map as results hold it: its title, what it is of, and "activated" [layers][GPUs].
nlohmann::ordered_json map_json(const std::string& title, const ActivatedMap& map);

/// Maps on a page, GPUs down and layers across, all in the shades of one scale: from the least to
/// the most of them all. Each of `maps` is as `map_json` wrote it; throws nlohmann::json::exception
/// for what is not.
std::string heat_maps_html(const nlohmann::ordered_json& maps);

}  // namespace metro::report
