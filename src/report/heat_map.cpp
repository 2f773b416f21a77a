// SPDX-License-Identifier: Apache-2.0
#include "report/heat_map.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>

#include "report/html.hpp"

namespace metro::report {
namespace {

using Json = nlohmann::ordered_json;
using Cells = std::vector<std::vector<double>>;  // [layers][GPUs]

constexpr int kShades = 9;

struct Scale {
  double least = std::numeric_limits<double>::infinity();
  double most = -std::numeric_limits<double>::infinity();

  void take(const Cells& cells) {
    for (const auto& layer : cells) {
      for (const double value : layer) {
        least = std::min(least, value);
        most = std::max(most, value);
      }
    }
  }
  [[nodiscard]] int shade(double value) const {
    if (!(most > least)) return 0;
    const double share = (value - least) / (most - least);
    return std::clamp(static_cast<int>(share * kShades), 0, kShades - 1);
  }
};

/// Mean over layers of each layer's busiest GPU.
double mean_of_busiest(const Cells& cells) {
  double sum = 0;
  for (const auto& layer : cells) sum += *std::ranges::max_element(layer);
  return sum / static_cast<double>(cells.size());
}

/// One path for each shade: a cell takes a dozen bytes, not an element.
std::string svg(const Cells& cells, const Scale& scale, const std::string& title) {
  std::array<std::string, kShades> paths;
  std::size_t gpus = 1;
  for (std::size_t layer = 0; layer < cells.size(); ++layer) {
    gpus = std::max(gpus, cells[layer].size());
    for (std::size_t gpu = 0; gpu < cells[layer].size(); ++gpu) {
      paths[static_cast<std::size_t>(scale.shade(cells[layer][gpu]))] +=
          fmt::format("M{} {}h1v1h-1z", layer, gpu);
    }
  }
  std::string html = fmt::format(
      "<svg class=\"heat\" viewBox=\"0 0 {} {}\" preserveAspectRatio=\"none\" role=\"img\" "
      "aria-label=\"{}\">",
      cells.size(), gpus, title);
  for (std::size_t shade = 0; shade < paths.size(); ++shade) {
    if (paths[shade].empty()) continue;
    html += fmt::format("<path class=\"heat-{}\" d=\"{}\"/>", shade, paths[shade]);
  }
  return html + "</svg>";
}

}  // namespace

Json map_json(const std::string& title, const ActivatedMap& map) {
  // Three decimals are more than 32 batches can tell.
  Json activated = Json::array();
  for (const auto& layer : map.activated) {
    Json row = Json::array();
    for (const double value : layer) row.push_back(std::round(value * 1e3) / 1e3);
    activated.push_back(std::move(row));
  }
  return {{"title", title},
          {"algorithm", map.spec.algorithm},
          {"gpus", map.spec.gpus},
          {"replication", map.spec.replication},
          {"tokens", map.spec.tokens},
          {"policy", map.spec.policy},
          {"batches", map.spec.batches},
          {"activated", std::move(activated)}};
}

std::string heat_maps_html(const Json& maps) {
  std::vector<Cells> all;
  Scale scale;
  for (const Json& map : maps) {
    all.push_back(map.at("activated").get<Cells>());
    const bool is_empty = all.back().empty() ||
                          std::ranges::any_of(all.back(), [](const auto& l) { return l.empty(); });
    if (is_empty) all.back() = {{0.0}};
    scale.take(all.back());
  }
  std::string html = "<div class=\"plots\">\n";
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string title = escape_html(maps[i].at("title").get<std::string>());
    html += fmt::format(
        "<figure><figcaption>{}</figcaption>{}<p class=\"axis\">GPUs down, {} layers across; mean "
        "of "
        "each layer's busiest GPU {:.2f}</p></figure>\n",
        title, svg(all[i], scale, title), all[i].size(), mean_of_busiest(all[i]));
  }
  html += fmt::format("</div>\n<p class=\"axis scale\">activated replicas of a GPU: {:.1f} ",
                      scale.least);
  for (int shade = 0; shade < kShades; ++shade) {
    html += fmt::format("<span class=\"heat-{}\"></span>", shade);
  }
  return html + fmt::format(" {:.1f}</p>\n", scale.most);
}

}  // namespace metro::report
