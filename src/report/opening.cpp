// SPDX-License-Identifier: Apache-2.0
#include "report/opening.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string_view>
#include <vector>

#include "metro/policy_names.hpp"
#include "report/html.hpp"

namespace metro::report {
namespace {

using Json = nlohmann::ordered_json;

/// Where the curves are taken: one trace, placement, number of GPUs and replication.
struct Place {
  std::string trace;
  std::string algorithm;
  int gpus = 0;
  double replication = 1;
};

/// Experts that the busiest GPU reads, at one batch size.
struct Point {
  double even = 0;
  double off = 0;
  double optimal = 0;
  double sharded = 0;
};
using Curve = std::map<int, Point>;  // by tokens per GPU

/// The trace with the most experts, the last placement, the GPUs nearest to 16, the most replicas.
Place place_of(const Json& compare) {
  constexpr double kUsualGpus = 16;
  Place place;
  int experts = 0;
  for (const Json& trace : compare.at("traces")) {
    if (trace.at("num_experts").get<int>() <= experts) continue;
    trace.at("num_experts").get_to(experts);
    trace.at("path").get_to(place.trace);
  }
  for (const Json& row : compare.at("rows")) {
    if (row.at("trace") != place.trace) continue;
    row.at("algorithm").get_to(place.algorithm);
    const int gpus = row.at("gpus").get<int>();
    const auto away = [](int n) { return std::abs(std::log2(n / kUsualGpus)); };
    if (place.gpus == 0 || away(gpus) < away(place.gpus)) place.gpus = gpus;
    place.replication = std::max(place.replication, row.at("replication").get<double>());
  }
  return place;
}

bool is_whole(const Json& row) {
  return !row.contains("ep") || row.at("ep").get<int>() == row.at("gpus").get<int>();
}

Curve curve_of(const Json& compare, const Place& place) {
  Curve curve;
  for (const Json& row : compare.at("rows")) {
    const bool here = row.at("trace") == place.trace && row.at("algorithm") == place.algorithm &&
                      row.at("gpus") == place.gpus && is_whole(row) &&
                      row.at("replication").get<double>() == place.replication;
    const int tokens = row.at("tokens").get<int>();
    if (!here || tokens % place.gpus != 0) continue;
    const auto policy = row.at("policy").get<std::string>();
    Point& point = curve[tokens / place.gpus];
    if (policy == kEvenPolicy) row.at("max_activated").get_to(point.even);
    if (policy != kOptimalPolicy) continue;
    row.at("max_activated").get_to(point.optimal);
    row.at("no_replication").get_to(point.off);
    row.at("tensor_sharded").get_to(point.sharded);
  }
  std::erase_if(curve, [](const auto& entry) {
    return entry.second.even <= 0 || entry.second.optimal <= 0 || entry.second.off <= 0;
  });
  return curve;
}

/// What `optimal` on one placement makes of EPLB off, over the whole grid.
struct Verdict {
  double best = 1;
  int best_tokens = 0;  // per GPU
  std::int64_t worse = 0;
  std::int64_t cases = 0;
};

Verdict verdict_of(const Json& compare, const std::string& algorithm) {
  std::map<std::string, std::int64_t> layers;
  for (const Json& trace : compare.at("traces")) {
    layers[trace.at("path").get<std::string>()] = trace.at("layers").get<std::int64_t>();
  }
  Verdict verdict;
  for (const Json& row : compare.at("rows")) {
    if (row.at("policy") != kOptimalPolicy || row.at("algorithm") != algorithm ||
        row.at("replication").get<double>() <= 1 || !is_whole(row)) {
      continue;
    }
    verdict.cases +=
        compare.at("batches").get<std::int64_t>() * layers[row.at("trace").get<std::string>()];
    verdict.worse += row.at("worse_than_none").get<std::int64_t>();
    const double ratio = row.at("vs_no_replication").get<double>();
    if (ratio >= verdict.best) continue;
    verdict.best = ratio;
    verdict.best_tokens = row.at("tokens").get<int>() / row.at("gpus").get<int>();
  }
  return verdict;
}

std::string thousands(std::int64_t value) {
  std::string text = fmt::format("{}", value);
  for (auto at = static_cast<std::ptrdiff_t>(text.size()) - 3; at > 0; at -= 3) {
    text.insert(static_cast<std::size_t>(at), ",");
  }
  return text;
}

std::string number_card(std::string_view number, std::string_view words) {
  return fmt::format("<div class=\"number\"><b>{}</b><span>{}</span></div>\n", number, words);
}

/// The curves as a picture that needs no script.
std::string picture(const Curve& curve, const Place& place) {
  constexpr double kLeft = 40, kRight = 380, kTop = 14, kBottom = 250;
  double most = 0;
  for (const auto& [tokens, point] : curve) most = std::max({most, point.even, point.off});
  const auto y = [&](double value) { return kBottom - (kBottom - kTop) * value / (1.08 * most); };
  std::size_t index = 0;
  const double step = (kRight - kLeft) / static_cast<double>(curve.size() - 1);
  const std::array<std::pair<std::string_view, double Point::*>, 4> lines = {
      {{"even split", &Point::even},
       {"EPLB off", &Point::off},
       {kOptimalPolicy, &Point::optimal},
       {"moe-TP", &Point::sharded}}};
  std::array<std::string, 4> paths;
  std::string svg =
      "<svg class=\"opening\" viewBox=\"0 0 490 300\" role=\"img\" aria-label=\"Experts "
      "that the busiest GPU reads, by tokens per GPU\">\n";
  for (const double part : {0.25, 0.5, 0.75, 1.0}) {
    svg += fmt::format(
        "<path class=\"grid\" d=\"M {0:g} {1:.1f} H {2:g}\"/><text class=\"tick\" x=\"{3:g}\" "
        "y=\"{4:.1f}\" text-anchor=\"end\">{5:.0f}</text>\n",
        kLeft, y(part * most), kRight, kLeft - 8, y(part * most) + 5, part * most);
  }
  for (const auto& [tokens, point] : curve) {
    const double x = kLeft + step * static_cast<double>(index++);
    svg += fmt::format(
        "<text class=\"tick\" x=\"{:.1f}\" y=\"{:g}\" text-anchor=\"middle\">{}</text>\n", x,
        kBottom + 20, tokens);
    for (std::size_t i = 0; i < lines.size(); ++i) {
      paths[i] += fmt::format("{}{:.1f} {:.1f}", paths[i].empty() ? "M " : " L ", x,
                              y(point.*lines[i].second));
    }
  }
  // Names at the right end, moved apart where curves meet.
  std::array<double, 4> at{};
  std::array<std::size_t, 4> order = {0, 1, 2, 3};
  const Point& last = curve.rbegin()->second;
  for (std::size_t i = 0; i < lines.size(); ++i) at[i] = y(last.*lines[i].second);
  std::ranges::stable_sort(order, {}, [&](std::size_t i) { return at[i]; });
  for (std::size_t i = 1; i < order.size(); ++i) {
    at[order[i]] = std::max(at[order[i]], at[order[i - 1]] + 20);
  }
  for (std::size_t i = 0; i < lines.size(); ++i) {
    svg += fmt::format(
        "<path class=\"curve c{0}\" d=\"{1}\"/><text class=\"c{0}\" x=\"{2:g}\" "
        "y=\"{3:.1f}\">{4}</text>\n",
        i, paths[i], kRight + 10, at[i] + 5, lines[i].first);
  }
  svg += fmt::format(
      "<text class=\"tick\" x=\"{:g}\" y=\"{:g}\" text-anchor=\"middle\">tokens per GPU"
      "</text>\n</svg>\n",
      (kLeft + kRight) / 2, kBottom + 42);
  return fmt::format(
      "<figure><figcaption>Experts that the busiest GPU reads in a layer</figcaption>\n{}"
      "<p class=\"note\">{} on {} GPUs, {:g}x replicas, placement {}; mean over layers and batches."
      "</p></figure>\n",
      svg, escape_html(place.trace.substr(place.trace.rfind('/') + 1)), place.gpus,
      place.replication, escape_html(place.algorithm));
}

std::string when_it_pays(const Curve& curve) {
  constexpr double kGain = 0.99;  // less is not worth a router
  int up_to = 0;
  for (const auto& [tokens, point] : curve) {
    if (point.optimal < kGain * point.off) up_to = tokens;
  }
  if (up_to == 0) {
    return "<p>Nowhere on this trace: every expert is active, so nothing reads fewer experts than "
           "EPLB off. Where replicas are there for prefill, policy <code>home</code> makes decode "
           "pay nothing for them.</p>\n";
  }
  const auto beyond = curve.upper_bound(up_to);
  std::string text = fmt::format(
      "<p>Here up to <b>{} token{} per GPU</b>: experts stay idle, and the exact router takes some "
      "off the busiest GPU.",
      up_to, up_to == 1 ? "" : "s");
  if (beyond != curve.end()) {
    text += fmt::format(
        " From <b>{}</b> on every expert is active. Nothing reads fewer than EPLB off then: use "
        "<code>home</code>, which costs nothing, or EPLB off.",
        beyond->first);
  }
  return text +
         " Counts are not time: a router costs microseconds, and replicas take memory from "
         "the KV cache. moe-TP reads the least, on kernels that are fast on narrow shards."
         "</p>\n";
}

}  // namespace

std::string opening_html(const Json& compare) {
  const Place place = place_of(compare);
  const Curve curve = curve_of(compare, place);
  const Verdict verdict = verdict_of(compare, place.algorithm);
  if (curve.size() < 2 || verdict.cases == 0) return "";
  const Point& full = curve.rbegin()->second;
  return "<section>\n<p class=\"lead\">In decode a MoE layer takes as long as its busiest GPU "
         "needs "
         "to read the weights of its <em>activated</em> experts. Engines that replicate hot "
         "experts "
         "split the tokens over all replicas, and so read every one of them. metro sends each "
         "active expert to one replica, so that the busiest GPU reads as few as possible.</p>\n"
         "<div class=\"numbers\">\n" +
         number_card(fmt::format("{:+.0f} %", 100 * (verdict.best - 1)),
                     fmt::format("experts on the busiest GPU against EPLB off (no replicas), at "
                                 "best; {} token{} per GPU",
                                 verdict.best_tokens, verdict.best_tokens == 1 ? "" : "s")) +
         number_card(fmt::format("{} of {}", thousands(verdict.worse), thousands(verdict.cases)),
                     fmt::format("cases (batch and layer) in which optimal on {} reads more than "
                                 "EPLB off",
                                 escape_html(place.algorithm))) +
         number_card(
             fmt::format("{:+.0f} %", 100 * (full.even / full.off - 1)),
             fmt::format("experts that the even split reads over EPLB off, at {} tokens per "
                         "GPU",
                         curve.rbegin()->first)) +
         "</div>\n" + picture(curve, place) + "<h3>When it pays</h3>\n" + when_it_pays(curve) +
         "<h3>What next</h3>\n<ul>\n"
         "<li>Your model, GPUs and load: <code>metro advise</code> says whether replicas pay, at "
         "equal memory.</li>\n"
         "<li>Your routing: <code>metro trace info</code> and <code>metro compare</code> on a "
         "recorded trace.</li>\n"
         "<li>Your cluster: docs/verify.md, from stock to home and optimal, with the metrics to "
         "read.</li>\n</ul>\n</section>\n";
}

}  // namespace metro::report
