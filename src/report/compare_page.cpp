// SPDX-License-Identifier: Apache-2.0
#include "report/compare_page.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <filesystem>
#include <string_view>

#include "report/assets.hpp"
#include "report/html.hpp"
#include "report/result.hpp"

namespace metro::report {
namespace {

using nlohmann::ordered_json;

/// The one (GPUs, replication) that the headline tables show: 16 GPUs at the highest replication,
/// or the nearest to it that was asked for.
struct Headline {
  int gpus = 0;
  double replication = 0;
};

Headline pick_headline(const CompareSpec& spec) {
  constexpr double kUsualGpus = 16;
  const auto distance = [](int gpus) { return std::abs(std::log2(gpus / kUsualGpus)); };
  return {*std::ranges::min_element(spec.gpus, {}, distance),
          *std::ranges::max_element(spec.replication)};
}

/// A page-wide table has room for a few policies: the baselines and the METRO family, or all where
/// few were asked for.
std::vector<std::size_t> headline_policies(const CompareSpec& spec) {
  constexpr std::array<std::string_view, 6> kShown = {"even",        "hash",  "home",
                                                      "metro-paper", "metro", "optimal"};
  std::vector<std::size_t> shown;
  for (std::size_t i = 0; i < spec.policies.size(); ++i) {
    const bool usual = std::ranges::find(kShown, spec.policies[i]) != kShown.end();
    if (usual || spec.policies.size() <= kShown.size()) shown.push_back(i);
  }
  return shown;
}

/// At most five batch sizes from the smallest to the largest: the map has them all.
bool is_shown_size(const CompareSpec& spec, std::size_t index) {
  constexpr std::size_t kMost = 5;
  const std::size_t last = spec.tokens.size() - 1;
  if (last < kMost) return true;
  for (std::size_t i = 0; i < kMost; ++i) {
    if (index == i * last / (kMost - 1)) return true;
  }
  return false;
}

/// What a page calls a trace: its file's name without the folders.
std::string label(const TraceComparison& comparison) {
  return std::filesystem::path(comparison.path).stem().string();
}

/// Four decimals are more than 32 batches can tell.
double rounded(double value) { return std::round(value * 1e4) / 1e4; }

/// The rows as arrays: a full grid has thousands.
ordered_json page_data(const CompareSpec& spec, const std::vector<TraceComparison>& comparisons) {
  ordered_json traces = ordered_json::array();
  for (const TraceComparison& comparison : comparisons) {
    ordered_json rows = ordered_json::array();
    for (const CompareRow& row : comparison.rows) {
      rows.push_back({row.algorithm, row.gpus, row.replication, row.tokens, row.policy,
                      rounded(row.max_activated), rounded(row.no_replication),
                      rounded(row.active_experts / row.gpus), rounded(row.vs_even),
                      // Not rounded: the map tells equal from almost equal.
                      row.vs_no_replication, row.worse_than_none});
    }
    traces.push_back({{"label", label(comparison)},
                      {"samples", comparison.num_layers * std::int64_t{spec.batches}},
                      {"rows", std::move(rows)}});
  }
  const Headline headline = pick_headline(spec);
  return {{"traces", std::move(traces)},
          {"algorithms", spec.algorithms},
          {"gpus", spec.gpus},
          {"replication", spec.replication},
          {"policies", spec.policies},
          {"per_gpu", spec.tokens_are_per_gpu},
          {"headline", {{"gpus", headline.gpus}, {"replication", headline.replication}}}};
}

std::string cell(double value, double none) {
  const std::string_view kind = value < none ? "better" : value > none ? "worse" : "equal";
  return fmt::format("<td class=\"{}\">{:.2f}</td>", kind, value);
}

std::string headline_table(const CompareSpec& spec, const TraceComparison& comparison) {
  const Headline headline = pick_headline(spec);
  const std::vector<std::size_t> shown = headline_policies(spec);
  std::string html =
      "<div class=\"scroll\"><table><thead><tr><th>Placement</th><th>Tokens</th>"
      "<th title=\"Each expert on one GPU\">no replicas</th>";
  for (const std::size_t i : shown) {
    html += fmt::format("<th>{}</th>", escape_html(spec.policies[i]));
  }
  html +=
      "<th>optimal / even</th><th>optimal / none</th>"
      "<th title=\"moe-TP: 1/G of every active expert on each GPU\">sharded</th></tr></thead>"
      "<tbody>\n";
  const auto& rows = comparison.rows;
  std::string_view group;
  for (std::size_t first = 0; first < rows.size(); first += spec.policies.size()) {
    const CompareRow& row = rows[first];
    if (row.gpus != headline.gpus || row.replication != headline.replication) continue;
    const std::size_t size_index = first / spec.policies.size() % spec.tokens.size();
    if (!is_shown_size(spec, size_index)) continue;
    const bool opens = row.algorithm != group;
    group = row.algorithm;
    html += fmt::format("<tr{}><th scope=\"row\">{}</th><td>{}</td><td>{:.2f}</td>",
                        opens ? " class=\"opens\"" : "", opens ? escape_html(group) : "",
                        row.tokens, row.no_replication);
    for (const std::size_t i : shown)
      html += cell(rows[first + i].max_activated, row.no_replication);
    html += fmt::format("<td>{:.2f}</td><td>{:.2f}</td><td>{:.2f}</td></tr>\n",
                        row.vs_even / row.vs_optimal, row.vs_no_replication / row.vs_optimal,
                        row.active_experts / row.gpus);
  }
  return html + "</tbody></table></div>\n";
}

std::string provenance(const CompareSpec& spec, const std::vector<TraceComparison>& comparisons) {
  std::string html;
  for (const TraceComparison& trace : comparisons) {
    html += fmt::format(
        "<h3>{}</h3>\n<p class=\"note\">{}; {}, {} tokens x {} layers, {} experts, top-{}.<br>"
        "Source: {}<br>Licence: {}</p>\n",
        escape_html(trace.path), escape_html(trace.info.model), escape_html(trace.info.phase),
        trace.num_tokens, trace.num_layers, trace.info.num_experts, trace.topk,
        escape_html(trace.info.source), escape_html(trace.info.licence));
  }
  const auto list = [](const auto& values) { return fmt::format("{}", fmt::join(values, ",")); };
  std::string command = "metro compare";
  for (const TraceComparison& trace : comparisons) command += " --trace " + trace.path;
  command += fmt::format(
      " --gpus {} --replication {} {} {} --policy {} --algorithm {} --batches {}"
      " --seed {}",
      list(spec.gpus), list(spec.replication),
      spec.tokens_are_per_gpu ? "--tokens-per-gpu" : "--tokens", list(spec.tokens),
      list(spec.policies), list(spec.algorithms), spec.batches, spec.seed);
  return html + fmt::format("<h3>Made again by</h3><pre>{}</pre>\n", escape_html(command));
}

constexpr std::string_view kIntro = R"html(<header>
<p class="tag" title="Counted by replaying real routing decisions on a CPU; no GPU was timed">simulated</p>
<h1>How many experts must the busiest GPU read?</h1>
<p class="lead">Decoding is bound by memory: a MoE layer takes as long as its busiest GPU needs to read the
weights of its <em>activated</em> experts. This page replays batches of a routing trace and counts
them, for every way to pick replicas. Lower is better.</p>
</header>
)html";

constexpr std::string_view kMap = R"html(<section aria-labelledby="map-title">
<h2 id="map-title">Never-worse map</h2>
<p>Max activated experts over <em>no replication</em> (each expert on one GPU, nothing to route):
<span class="key better">below 1: fewer</span> <span class="key equal">1: the same</span>
<span class="key worse">above 1: replicas made it worse</span></p>
<div id="overview"></div>
<div class="controls" id="map-controls"></div>
<p id="map-verdict" class="verdict" aria-live="polite"></p>
<div id="map"></div>
</section>
<section aria-labelledby="chart-title">
<h2 id="chart-title">Max activated experts by policy and replication</h2>
<div class="controls" id="chart-controls"></div>
<div id="chart-box"><canvas id="chart" role="img" aria-labelledby="chart-title"></canvas></div>
<div id="chart-table"></div>
</section>
<noscript><p class="note">The map and the chart need JavaScript; the tables do not.</p></noscript>
)html";

constexpr std::string_view kMethod = R"html(<h3>How this was counted</h3>
<ul>
<li>Placements are built from the expert loads of the first half of the trace, batches drawn from the
second: sequences in random order, one random token each, round after round. Every policy gets the
same batches.</li>
<li>Figures are means over layers and batches; ratios are ratios of means.</li>
<li><b>No replication</b>: the same placement algorithm with one slot per expert. <b>Sharded</b>
(moe-TP): each GPU holds 1/G of every expert, so it reads active experts / G experts' worth, a bound
that no choice of replicas can beat.</li>
<li>Replicas take memory from the KV cache, and time is not counted here: router cost, communication
and compute-bound batches are other measurements.</li>
</ul>
)html";

}  // namespace

std::string compare_page(const CompareSpec& spec, const std::vector<TraceComparison>& comparisons) {
  std::string page =
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n"
      "<title>metro compare: activated experts</title>\n<style>\n";
  page += compare_css();
  page += "</style>\n</head>\n<body>\n<main>\n";
  page += kIntro;
  const Headline headline = pick_headline(spec);
  page += fmt::format(
      "<section aria-labelledby=\"headline\">\n<h2 id=\"headline\">Headline: {} GPUs, {}x "
      "replication</h2>\n<p>Max activated experts per GPU; <span class=\"key better\">below</span> "
      "or <span class=\"key worse\">above</span> no replication.</p>\n",
      headline.gpus, short_number(headline.replication));
  for (const TraceComparison& comparison : comparisons) {
    page += fmt::format("<h3>{}</h3>\n<p class=\"note\">{}</p>\n", escape_html(label(comparison)),
                        escape_html(comparison.info.model));
    page += headline_table(spec, comparison);
  }
  page += "</section>\n";
  page += kMap;
  page += "<section aria-labelledby=\"from\">\n<h2 id=\"from\">Where this comes from</h2>\n";
  page += provenance(spec, comparisons);
  page += kMethod;
  page += fmt::format("<p>{} batches of each size, seed {}, evidence: <b>{}</b>.</p>\n</section>\n",
                      spec.batches, spec.seed, to_string(Evidence::kSimulated));
  page += "</main>\n<script type=\"application/json\" id=\"data\">";
  page += script_json(page_data(spec, comparisons));
  page += "</script>\n<script>";
  page += chart_js();
  page += "</script>\n<script>";
  page += compare_js();
  page += "</script>\n</body>\n</html>\n";
  return page;
}

}  // namespace metro::report
