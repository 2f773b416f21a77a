// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

#include "metro/reproduce.hpp"

namespace metro::report {

/// A plot as results hold it: "title", "kind", "x_label", "y_label", "categories", "series".
nlohmann::ordered_json plot_json(const Plot& plot);

/// Back again. Throws nlohmann::json::exception for what is no plot.
Plot read_plot(const nlohmann::ordered_json& json);

/// A plot on a page: a canvas that plot.js draws on, with its figures in a table below.
std::string plot_html(const Plot& plot);

}  // namespace metro::report
