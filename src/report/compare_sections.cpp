// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string_view>

#include "metro/router.hpp"
#include "report/heat_map.hpp"
#include "report/html.hpp"
#include "report/html_table.hpp"
#include "report/section.hpp"

namespace metro::report {
namespace {

/// One row of `metro compare`.
struct Row {
  std::string trace;
  std::string algorithm;
  int gpus = 0;
  int ep = 0;
  double replication = 0;
  int tokens = 0;
  std::string policy;
  double max_activated = 0;
  double no_replication = 0;
  double sharded = 0;  ///< moe-TP
  double vs_even = 0;
  double vs_no_replication = 0;
  double vs_optimal = 0;
  std::int64_t worse = 0;
};

Row read_row(const Json& json) {
  Row row;
  json.at("trace").get_to(row.trace);
  json.at("algorithm").get_to(row.algorithm);
  json.at("gpus").get_to(row.gpus);
  row.ep = json.contains("ep") ? json["ep"].get<int>() : row.gpus;
  json.at("replication").get_to(row.replication);
  json.at("tokens").get_to(row.tokens);
  json.at("policy").get_to(row.policy);
  json.at("max_activated").get_to(row.max_activated);
  json.at("no_replication").get_to(row.no_replication);
  json.at("tensor_sharded").get_to(row.sharded);
  json.at("vs_even").get_to(row.vs_even);
  json.at("vs_no_replication").get_to(row.vs_no_replication);
  json.at("vs_optimal").get_to(row.vs_optimal);
  json.at("worse_than_none").get_to(row.worse);
  return row;
}

/// Values in the order in which rows first have them: the grid's lists again.
template <typename Value>
void add_new(std::vector<Value>& values, const Value& value) {
  if (std::ranges::find(values, value) == values.end()) values.push_back(value);
}

/// A result of `metro compare`, with the lists of its grid.
struct Comparison {
  const Json& result;
  std::vector<Row> rows;
  std::vector<std::string> algorithms;
  std::vector<int> gpus;
  std::vector<int> ep;  ///< empty: it was not asked for
  std::vector<double> replication;
  std::vector<int> sizes;  ///< tokens in all, or per GPU
  std::vector<std::string> policies;
  bool per_gpu = false;

  explicit Comparison(const Json& json) : result(json) {
    for (const Json& row : json.at("rows")) {
      per_gpu = row.contains("tokens_per_gpu");
      rows.push_back(read_row(row));
      add_new(algorithms, rows.back().algorithm);
      add_new(gpus, rows.back().gpus);
      if (row.contains("ep")) add_new(ep, rows.back().ep);
      add_new(replication, rows.back().replication);
      add_new(sizes, size_of(rows.back()));
      add_new(policies, rows.back().policy);
    }
  }

  [[nodiscard]] int size_of(const Row& row) const {
    return per_gpu && row.gpus > 0 ? row.tokens / row.gpus : row.tokens;
  }

  /// Pages show 16 GPUs at the highest replication, or the nearest to it that was asked for.
  [[nodiscard]] int headline_gpus() const {
    constexpr double kUsualGpus = 16;
    return *std::ranges::min_element(
        gpus, {}, [](int n) { return std::abs(std::log2(std::max(n, 1) / kUsualGpus)); });
  }
  /// Where a page has room for one: the least sharded.
  [[nodiscard]] int headline_ep() const {
    return ep.empty() ? headline_gpus() : std::ranges::max(ep);
  }
  [[nodiscard]] double headline_replication() const {
    return *std::ranges::max_element(replication);
  }
};

/// How a row's GPUs share the experts.
std::string layout(int gpus, int ep) {
  return gpus == ep ? fmt::format("{}", gpus) : fmt::format("{}, EP {}", gpus, ep);
}

/// A page-wide table has room for a few policies: the baselines and the METRO family, or all where
/// few were asked for.
std::vector<std::string> headline_policies(const Comparison& comparison) {
  constexpr std::size_t kRoom = 6;
  std::vector<std::string> shown;
  for (const std::string& policy : comparison.policies) {
    const PolicyInfo* info = find_policy(policy);
    const bool usual = info != nullptr && info->headline;
    if (usual || comparison.policies.size() <= kRoom) shown.push_back(policy);
  }
  return shown;
}

/// At most five batch sizes from the smallest to the largest: the map has them all.
bool is_shown_size(const std::vector<int>& sizes, int size) {
  constexpr std::size_t kMost = 5;
  const std::size_t last = sizes.size() - 1;
  if (last < kMost) return true;
  for (std::size_t i = 0; i < kMost; ++i) {
    if (sizes[i * last / (kMost - 1)] == size) return true;
  }
  return false;
}

/// What a page calls a trace: its file's name without the folders.
std::string label(const std::string& trace) { return std::filesystem::path(trace).stem().string(); }

/// Four decimals are more than 32 batches can tell.
double rounded(double value) { return std::round(value * 1e4) / 1e4; }

/// What compare_sections.js draws from; rows as arrays: a full grid has thousands.
Json page_data(const Comparison& comparison) {
  Json traces = Json::array();
  std::vector<std::string> layouts;
  const auto batches = comparison.result.at("batches").get<std::int64_t>();
  for (const Json& trace : comparison.result.at("traces")) {
    const auto path = trace.at("path").get<std::string>();
    Json rows = Json::array();
    for (const Row& row : comparison.rows) {
      if (row.trace != path) continue;
      rows.push_back({row.algorithm, row.gpus, row.replication, row.tokens, row.policy,
                      rounded(row.max_activated), rounded(row.no_replication), rounded(row.sharded),
                      rounded(row.vs_even),
                      // Not rounded: the map tells equal from almost equal.
                      row.vs_no_replication, row.worse, layout(row.gpus, row.ep)});
      add_new(layouts, layout(row.gpus, row.ep));
    }
    traces.push_back({{"label", label(path)},
                      {"samples", trace.at("layers").get<std::int64_t>() * batches},
                      {"rows", std::move(rows)}});
  }
  return {{"traces", std::move(traces)},
          {"algorithms", comparison.algorithms},
          {"layouts", layouts},
          {"replication", comparison.replication},
          {"policies", comparison.policies},
          {"per_gpu", comparison.per_gpu},
          {"headline",
           {{"layout", layout(comparison.headline_gpus(), comparison.headline_ep())},
            {"policy", kDefaultPolicy}}}};
}

std::string_view kind_of(double value, double none) {
  return value < none ? "better" : value > none ? "worse" : "equal";
}

std::string headline_table(const Comparison& comparison, const std::string& trace) {
  const std::vector<std::string> shown = headline_policies(comparison);
  const bool has_ep = !comparison.ep.empty();
  std::vector<std::string> header = {"Placement"};
  if (has_ep) header.emplace_back("EP");
  header.insert(header.end(), {"Tokens", "EPLB off"});
  header.insert(header.end(), shown.begin(), shown.end());
  header.insert(header.end(), {"optimal / even", "optimal / none", "moe-TP"});
  HtmlTable table(std::move(header));
  std::string group;
  const auto& rows = comparison.rows;
  for (std::size_t first = 0; first < rows.size(); first += comparison.policies.size()) {
    const Row& row = rows[first];
    if (row.trace != trace || row.gpus != comparison.headline_gpus() ||
        row.replication != comparison.headline_replication() ||
        !is_shown_size(comparison.sizes, comparison.size_of(row))) {
      continue;
    }
    const bool opens = row.algorithm != group;
    group = row.algorithm;
    table.add_row();
    table.add(opens ? group : "", opens ? "opens" : "");
    if (has_ep) table.add(fmt::format("{}", row.ep));
    table.add(fmt::format("{}", row.tokens));
    table.add(fmt::format("{:.2f}", row.no_replication));
    for (const std::string& policy : shown) {
      for (std::size_t i = first; i < first + comparison.policies.size() && i < rows.size(); ++i) {
        if (rows[i].policy != policy) continue;
        table.add(fmt::format("{:.2f}", rows[i].max_activated),
                  kind_of(rows[i].max_activated, row.no_replication));
      }
    }
    const double optimal = row.vs_optimal;
    table.add(fmt::format("{:.2f}", row.vs_even / optimal));
    table.add(fmt::format("{:.2f}", row.vs_no_replication / optimal));
    table.add(fmt::format("{:.2f}", row.sharded));
  }
  return table.html();
}

std::string provenance(const Comparison& comparison) {
  std::string html;
  std::string command = "metro compare";
  for (const Json& trace : comparison.result.at("traces")) {
    const auto text = [&trace](const char* key) {
      return escape_html(trace.at(key).get<std::string>());
    };
    const auto number = [&trace](const char* key) { return trace.at(key).get<std::int64_t>(); };
    html += fmt::format(
        "<h3>{}</h3>\n<p class=\"note\">{}; {}, {} tokens x {} layers, {} experts, top-{}.<br>"
        "Source: {}<br>Licence: {}</p>\n",
        text("path"), text("model"), text("phase"), number("tokens"), number("layers"),
        number("num_experts"), number("topk"), text("source"), text("licence"));
    command += " --trace " + trace.at("path").get<std::string>();
  }
  command += fmt::format(
      " --gpus {}{} --replication {} {} {} --policy {} --algorithm {} --batches {} --seed {}",
      fmt::join(comparison.gpus, ","),
      comparison.ep.empty() ? "" : fmt::format(" --ep {}", fmt::join(comparison.ep, ",")),
      fmt::join(comparison.replication, ","), comparison.per_gpu ? "--tokens-per-gpu" : "--tokens",
      fmt::join(comparison.sizes, ","), fmt::join(comparison.policies, ","),
      fmt::join(comparison.algorithms, ","), comparison.result.at("batches").get<std::int64_t>(),
      comparison.result.at("seed").get<std::uint64_t>());
  return html + fmt::format("<h3>Made again by</h3><pre>{}</pre>\n", escape_html(command));
}

constexpr std::string_view kMap = R"html(<p>Max activated experts over <em>EPLB off</em> (each
expert on one GPU, nothing to route):
<span class="key better">below 1: fewer</span> <span class="key equal">1: the same</span>
<span class="key worse">above 1: replicas made it worse</span></p>
<div data-part="overview"></div>
<div class="controls" data-part="map-controls"></div>
<p data-part="map-verdict" class="verdict" aria-live="polite"></p>
<div data-part="map"></div>
<h3>By policy and replication</h3>
<div class="controls" data-part="chart-controls"></div>
<div class="plot-box" data-part="chart-box"><canvas role="img"
aria-label="Max activated experts by policy and replication"></canvas></div>
<div data-part="chart-table"></div>
)html";

constexpr std::string_view kMethod = R"html(<h3>How this was counted</h3>
<ul>
<li>Placements are built from the expert loads of the first half of the trace, batches drawn from the
second: sequences in random order, one random token each, round after round. Every policy gets the
same batches.</li>
<li>Figures are means over layers and batches; ratios are ratios of means.</li>
<li><b>EPLB off</b>: the same placement algorithm with one slot per expert. <b>moe-TP</b>: each
GPU holds 1/G of every expert, so it reads active experts / G experts' worth, a bound that no choice
of replicas can beat.</li>
<li><b>EP</b> below the number of GPUs: the GPUs form that many groups, and each GPU of a group holds an
equal part of the group's experts. Figures are in whole experts' worth of bytes on one GPU. EPLB off has
no groups.</li>
<li>Replicas take memory from the KV cache, and time is not counted here: router cost, communication
and compute-bound batches are other measurements.</li>
</ul>
)html";

}  // namespace

std::vector<Section> compare_sections(const Json& result) {
  const Comparison comparison(result);
  if (comparison.rows.empty()) return {{"Rows", "<p>None.</p>\n"}};
  std::string headline =
      "<p>Max activated experts per GPU; <span class=\"key better\">below</span> or <span "
      "class=\"key worse\">above</span> EPLB off.</p>\n";
  for (const Json& trace : result.at("traces")) {
    const auto path = trace.at("path").get<std::string>();
    headline += fmt::format("<h3>{}</h3>\n<p class=\"note\">{}</p>\n", escape_html(label(path)),
                            escape_html(trace.at("model").get<std::string>()));
    headline += headline_table(comparison, path);
  }
  std::vector<Section> sections;
  sections.push_back({fmt::format("Headline: {} GPUs, {:g}x replication",
                                  comparison.headline_gpus(), comparison.headline_replication()),
                      std::move(headline)});
  sections.push_back({"Never-worse map",
                      fmt::format("<div class=\"compare\">{}<script type=\"application/json\">{}"
                                  "</script></div>\n",
                                  kMap, script_json(page_data(comparison)))});
  if (result.contains("activated_maps") && !result["activated_maps"].empty()) {
    sections.push_back(
        {"Where the activated experts lie", heat_maps_html(result["activated_maps"])});
  }
  sections.push_back({"What was compared", provenance(comparison) + std::string(kMethod)});
  return sections;
}

}  // namespace metro::report
