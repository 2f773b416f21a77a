// SPDX-License-Identifier: Apache-2.0
#include "report/report_page.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>

#include "metro/error.hpp"
#include "report/assets.hpp"
#include "report/html.hpp"
#include "report/opening.hpp"
#include "report/section.hpp"

namespace metro::report {
namespace {

/// A command's sections, and the words that a page of it alone opens with.
struct Builder {
  std::string_view command;
  std::vector<Section> (*sections)(const Json&);
  std::string_view heading;
  std::string_view lead;  // HTML
};

constexpr std::array kBuilders = {
    Builder{
        "compare", compare_sections, "How many experts must the busiest GPU read?",
        "Decoding is bound by memory: a MoE layer takes as long as its busiest GPU needs to read "
        "the weights of its <em>activated</em> experts. This page replays batches of a routing "
        "trace and counts them, for every way to pick replicas. Lower is better."},
    Builder{
        "reproduce", reproduce_sections, "The METRO paper, made again",
        "Figures of arXiv 2512.09277 on its three model-hardware pairs, out of an open simulator "
        "in place of its closed one, with the rivals that it leaves out. Nothing was tuned to its "
        "figures."},
    Builder{"simulate", serving_sections, "Serving, simulated",
            "Requests on modelled GPUs, with placement and routing in the loop."},
    Builder{"sweep", serving_sections, "Serving, every way",
            "Every combination of the options, and which of them no other beats."},
    Builder{"bench layer", layer_sections, "One MoE layer, timed",
            "An expert-parallel layer under every policy, beside EPLB off and moe-TP."},
    Builder{"advise", advice_sections, "Should you replicate experts?",
            "The candidates, the choice, and why."},
    Builder{"validate", plain_sections, "How far off is the cost model?",
            "Its predictions against measured serving points, in per cent of the measured value."},
};
constexpr Builder kPlain{"", plain_sections, "A metro result", ""};

const Builder& builder_of(const Json& result) {
  const auto command = result.at("command").get<std::string>();
  const auto* found = std::ranges::find(kBuilders, command, &Builder::command);
  return found == kBuilders.end() ? kPlain : *found;
}

std::string provenance(const NamedResult& named) {
  const Json& result = named.result;
  std::string html =
      fmt::format("<h3>{}</h3>\n<p class=\"note\">metro {}, seed {}, evidence: <b>{}</b>.",
                  escape_html(named.name), escape_html(result.at("command").get<std::string>()),
                  result.at("seed").get<std::uint64_t>(),
                  escape_html(result.at("evidence").get<std::string>()));
  for (const Json& input : result.at("inputs")) {
    html += fmt::format("<br>{} <span class=\"hash\">sha256 {}</span>",
                        escape_html(input.at("path").get<std::string>()),
                        escape_html(input.at("sha256").get<std::string>()));
  }
  return html + "</p>\n";
}

std::string section_html(std::size_t number, const Section& section) {
  return fmt::format("<section aria-labelledby=\"s{}\">\n<h2 id=\"s{}\">{}</h2>\n{}</section>\n",
                     number, number, escape_html(section.title), section.body);
}

/// `work()`, in which a key is missing or of another type when the result is not what it says.
template <typename Work>
void checking(const NamedResult& named, const Work& work) {
  try {
    work();
  } catch (const nlohmann::json::exception& error) {
    std::string why = error.what();  // "[json.exception...] what"
    why.erase(0, std::min(why.size(), why.find("] ") + 2));
    throw Error(ErrorCode::kInput,
                fmt::format("{}: is not as its command writes it: {}", named.name, why));
  } catch (const Error& error) {
    throw Error(error.code(), fmt::format("{}: {}", named.name, error.what()));
  }
}

std::string file_name(const NamedResult& named) {
  return escape_html(std::filesystem::path(named.name).filename().string());
}

/// Of the first result of `compare`; empty where there is none, or too small a one.
std::string opening_of(const std::vector<NamedResult>& results) {
  for (const NamedResult& named : results) {
    if (named.result.at("command") != "compare") continue;
    std::string html;
    checking(named, [&] { html = opening_html(named.result); });
    return html;
  }
  return "";
}

std::string header(const std::vector<NamedResult>& results, const std::string& opening) {
  std::string tags;
  std::vector<std::string> seen;
  for (const NamedResult& named : results) {
    const auto evidence = named.result.at("evidence").get<std::string>();
    if (std::ranges::find(seen, evidence) != seen.end()) continue;
    seen.push_back(evidence);
    tags += fmt::format("<span class=\"tag\">{}</span> ", escape_html(evidence));
  }
  const Builder& first = builder_of(results.front().result);
  std::string heading(first.heading);
  std::string lead = fmt::format("<p class=\"lead\">{}</p>", first.lead);
  if (results.size() > 1) {
    heading = opening.empty() ? "metro report" : "What activated experts cost, and when METRO pays";
    lead = opening + "<p>On this page:</p>\n<ul>\n";
    for (std::size_t i = 0; i < results.size(); ++i) {
      lead += fmt::format("<li><a href=\"#r{}\">{}</a> <span class=\"note\">{}</span></li>\n", i,
                          builder_of(results[i].result).heading, file_name(results[i]));
    }
    lead += "</ul>";
  }
  return fmt::format("<header>\n<p>{}</p>\n<h1>{}</h1>\n{}\n</header>\n", tags, heading, lead);
}

}  // namespace

std::string report_page(const std::vector<NamedResult>& results) {
  std::string body;
  std::string sources;
  std::size_t number = 0;
  for (std::size_t i = 0; i < results.size(); ++i) {
    const NamedResult& named = results[i];
    checking(named, [&] {
      const Builder& builder = builder_of(named.result);
      if (results.size() > 1) {
        body +=
            fmt::format("<h2 class=\"result\" id=\"r{}\">{} <span class=\"note\">{}</span></h2>\n",
                        i, builder.heading, file_name(named));
      }
      for (const Section& section : builder.sections(named.result)) {
        body += section_html(++number, section);
      }
      sources += provenance(named);
    });
  }
  std::string page =
      "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\">\n<title>metro report</title>\n<style>\n";
  page += page_css();
  page += "</style>\n</head>\n<body>\n<main>\n";
  const std::string opening = results.size() > 1 ? opening_of(results) : "";
  checking(results.front(), [&] { page += header(results, opening); });
  page += "<noscript><p class=\"note\">Charts need JavaScript; tables do not.</p></noscript>\n";
  page += body;
  page += section_html(++number, {"Where this comes from", sources});
  page += "</main>\n<script>";
  page += chart_js();
  page += "</script>\n<script>";
  page += plot_js();
  page += "</script>\n<script>";
  page += compare_js();
  page += "</script>\n</body>\n</html>\n";
  return page;
}

}  // namespace metro::report
