// SPDX-License-Identifier: Apache-2.0
#include "report/advice_result.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "advise/reasons.hpp"
#include "advise/redundant_experts.hpp"
#include "core/vocabulary.hpp"
#include "report/simulate_result.hpp"
#include "report/table.hpp"

namespace metro::report {
namespace {

using Json = nlohmann::ordered_json;

bool has_slo(const SimulationConfig& serving) {
  return serving.slo_tpot_ms > 0 || serving.slo_ttft_ms > 0;
}

double kv_cost_gb(const AdviceRow& row) { return row.result.memory.replica_bytes * 1e-9; }

double experts_share(const SimulationResult& result) {
  for (const auto& [stage, share] : result.stage_share) {
    if (stage == "experts") return share;
  }
  return 0;
}

std::string_view experts_name(const AdviceCandidate& candidate) {
  return candidate.tensor_sharded ? kMoeTp : kWholeExperts;
}

/// What to do, without the reasons.
std::string answer(const SimulationConfig& serving, const AdviceCandidate& candidate) {
  if (candidate.is_off()) return "do not replicate";
  if (candidate.tensor_sharded) return "do not replicate; shard every expert (moe-TP)";
  const std::string groups =
      candidate.shards == 1 ? "" : fmt::format("shard every expert over {} GPUs", candidate.shards);
  if (candidate.replication == 1) return "do not replicate; " + groups;
  return (groups.empty() ? "" : groups + " and ") +
         fmt::format(
             "replicate {:g}x ({} redundant experts), placement {}, policy {} ({} for "
             "prefill)",
             candidate.replication, redundant_experts(candidate, serving), candidate.algorithm,
             candidate.policy, candidate.prefill_policy);
}

Json launch_json(const EngineLaunch& launch) {
  return {{"engine", launch.engine},
          {"refusal", launch.refusal.empty() ? Json() : Json(launch.refusal)},
          {"row", launch.row ? Json(*launch.row) : Json()},
          {"command", launch.row ? Json(launch.command) : Json()},
          {"notes", launch.notes}};
}

/// The same for people, a paragraph and the command.
std::string launch_text(const Advice& advice) {
  if (!advice.launch) return "";
  const EngineLaunch& launch = *advice.launch;
  std::string text = launch.refusal.empty()
                         ? fmt::format("In {}", launch.engine)
                         : fmt::format("{} cannot run that: {}.", launch.engine, launch.refusal);
  if (!launch.row) return text + "\n\n";
  if (!launch.refusal.empty()) {
    const AdviceRow& row = advice.rows[*launch.row];
    text += advice.by_goodput
                ? fmt::format(" The best that it can is {}, {} requests/s within the SLO",
                              candidate_text(row.candidate), goodput_text(row))
                : fmt::format(" The best that it can is {}, {} ms a token",
                              candidate_text(row.candidate), tpot_text(row));
  }
  text += ":\n\n" + launch.command + "\n\n";
  for (const std::string& note : launch.notes) text += "Note: " + note + ".\n";
  return launch.notes.empty() ? text : text + "\n";
}

Json advice_json(const SimulationConfig& serving, const Advice& advice) {
  const AdviceRow& choice = advice.choice();
  const AdviceRow& off = advice.rows[advice.off];
  const AdviceCandidate& chosen = choice.candidate;
  const auto kept = [](const AdviceRow& row) {
    return row.error.empty() ? Json(row.result.tpot_ms.p90) : Json();
  };
  // Without a choice of replicas nothing is placed twice, and no policy runs.
  const bool replicate = advice.replicate();
  return {{"replicate", replicate},
          {"replication", chosen.replication},
          {"redundant_experts", redundant_experts(chosen, serving)},
          {"algorithm", replicate ? Json(chosen.algorithm) : Json()},
          {"policy", replicate ? Json(chosen.policy) : Json()},
          {"prefill_policy", replicate ? Json(chosen.prefill_policy) : Json()},
          {"experts", experts_name(chosen)},
          {"shards", chosen.shards},
          {"chosen_by", advice.by_goodput ? "goodput" : "tpot"},
          {"slo_kept", has_slo(serving) ? Json(advice.by_goodput) : Json()},
          {"tpot_ms_of_90_pct", {{"advised", kept(choice)}, {"eplb_off", kept(off)}}},
          {"kv_cost_gb_per_gpu", kv_cost_gb(choice)},
          {"kv_cost_share", choice.kv_share_lost},
          {"row", advice.chosen},
          {"reasons", advice.reasons},
          {"note", advice.note.empty() ? Json() : Json(advice.note)},
          {"launch", advice.launch ? launch_json(*advice.launch) : Json()}};
}

Json row_json(const AdviceRow& row, const AdviceRow& off) {
  const AdviceCandidate& candidate = row.candidate;
  Json json = {{"candidate", candidate.name()},
               {"replication", candidate.replication},
               {"algorithm", candidate.algorithm},
               {"policy", candidate.policy},
               {"prefill_policy", candidate.prefill_policy},
               {"experts", experts_name(candidate)},
               {"shards", candidate.shards}};
  if (row.splits_scale_blocks) json["splits_scale_blocks"] = true;
  if (!row.error.empty()) {
    json["error"] = row.error;
    return json;
  }
  const SimulationResult& result = row.result;
  const auto times = [](const Percentiles& p) {
    return Json{{"mean", p.mean}, {"p50", p.p50}, {"p90", p.p90}, {"p99", p.p99}};
  };
  json["eligible"] = row.eligible;
  json["frontier"] = row.on_frontier;
  json["completed"] = result.completed;
  json["tpot_ms"] = times(result.tpot_ms);
  json["ttft_ms"] = times(result.ttft_ms);
  json["tpot_vs_off"] = off.error.empty() && off.result.tpot_ms.mean > 0
                            ? Json(result.tpot_ms.mean / off.result.tpot_ms.mean)
                            : Json();
  json["output_tokens_per_s"] = result.output_tokens_per_s;
  json["goodput_requests_per_s"] = result.goodput_requests_per_s;
  json["max_activated"] = result.max_activated;
  json["mean_batch"] = result.mean_batch;
  json["experts_share"] = experts_share(result);
  json["kv_use"] = result.kv_use;
  json["preemptions"] = result.preemptions;
  json["kv_capacity_tokens"] = result.kv_capacity_tokens;
  json["kv_cost_gb_per_gpu"] = kv_cost_gb(row);
  json["kv_cost_share"] = row.kv_share_lost;
  return json;
}

std::vector<std::string> cells(const AdviceRow& row, const AdviceRow& off, bool with_goodput,
                               bool is_chosen) {
  const SimulationResult& result = row.result;
  std::vector<std::string> cells = {(is_chosen ? "* " : "  ") + candidate_text(row.candidate)};
  if (!row.error.empty()) {
    cells.insert(cells.end(), with_goodput ? 8 : 7, "-");
    cells.emplace_back("infeasible");
    return cells;
  }
  cells.push_back(tpot_text(row));
  cells.push_back(off.error.empty() && off.result.tpot_ms.mean > 0
                      ? fmt::format("{:.3f}", result.tpot_ms.mean / off.result.tpot_ms.mean)
                      : "-");
  cells.push_back(fmt::format("{:.1f}", result.ttft_ms.mean));
  cells.push_back(fmt::format("{:.1f}", result.output_tokens_per_s));
  if (with_goodput) cells.push_back(goodput_text(row));
  cells.push_back(activated_text(row));
  cells.push_back(kv_cost_text(row));
  cells.push_back(kv_share_text(row));
  const std::string_view mark = row.splits_scale_blocks ? "splits scale blocks"
                                : !row.eligible         ? "serves less"
                                : row.on_frontier       ? "frontier"
                                                        : "";
  cells.emplace_back(mark);
  return cells;
}

}  // namespace

void append_advice(Json& result, const SimulationConfig& serving, const Advice& advice) {
  Json configuration;
  append_configuration(configuration, serving);
  // These are what the rows vary.
  for (const char* key :
       {"ep", "replication", "algorithm", "policy", "prefill_policy", "experts"}) {
    configuration.erase(key);
  }
  result.update(configuration);
  result["requests"] = serving.requests.size();
  result["advice"] = advice_json(serving, advice);
  result["rows"] = Json::array();
  for (const AdviceRow& row : advice.rows) {
    Json json = row_json(row, advice.rows[advice.off]);
    if (row.error.empty()) json["redundant_experts"] = redundant_experts(row.candidate, serving);
    result["rows"].push_back(std::move(json));
  }
}

void append_fleets(Json& result, const std::vector<FleetPoint>& fleets) {
  result["min_gpus"] = nullptr;
  result["fleets"] = Json::array();
  for (const FleetPoint& point : fleets) {
    if (point.keeps_slo) result["min_gpus"] = point.gpus;
    Json json = {{"gpus", point.gpus}, {"keeps_slo", point.keeps_slo}};
    if (point.error.empty()) {
      json["advice"] = row_json(point.row, point.row);
      json["advice"].erase("tpot_vs_off");
    } else {
      json["error"] = point.error;
    }
    result["fleets"].push_back(std::move(json));
  }
}

std::string fleet_table(const std::vector<FleetPoint>& fleets) {
  Table table({"GPUs", "best", "TPOT ms, p90", "TTFT ms, p90", "SLO"}, 2);
  int least = 0;
  for (const FleetPoint& point : fleets) {
    if (point.keeps_slo) least = point.gpus;
    if (!point.error.empty()) {
      table.add_row({fmt::format("{}", point.gpus), "-", "-", "-", "infeasible"});
      continue;
    }
    table.add_row({fmt::format("{}", point.gpus), candidate_text(point.row.candidate),
                   fmt::format("{:.2f}", point.row.result.tpot_ms.p90),
                   fmt::format("{:.1f}", point.row.result.ttft_ms.p90),
                   point.keeps_slo ? "kept" : "not kept"});
  }
  const std::string answer =
      least == 0
          ? "No number of GPUs that was tried keeps the SLO for 90 % of the requests."
          : fmt::format("{} GPUs are the least that keep the SLO for 90 % of the requests.", least);
  return fmt::format("\n{}\n\n{}", answer, table.text());
}

std::string advice_table(const SimulationConfig& serving, const Advice& advice, double wall_s,
                         int width) {
  const AdviceRow& choice = advice.choice();
  const AdviceRow& off = advice.rows[advice.off];
  std::string text = fmt::format(
      "Advice for {} ({}) on {} x {}: {}.\n{}\n{}\n\n", serving.model.name,
      data_type_name(serving.deployment.expert_weights), serving.deployment.gpus, serving.gpu.name,
      answer(serving, choice.candidate), advice.reasons[0], advice.reasons[1]);
  text += fmt::format("90 % of requests get a token every {:.2f} ms or faster",
                      choice.result.tpot_ms.p90);
  text += off.error.empty() ? fmt::format(" (EPLB off: {:.2f}).\n", off.result.tpot_ms.p90) : ".\n";
  if (!advice.note.empty()) text += "Note: " + advice.note + ".\n";
  text += fmt::format("Simulated: {} requests, seed {}, {} candidates in {:.2f} s.\n\n",
                      serving.requests.size(), serving.seed, advice.rows.size(), wall_s);

  text += launch_text(advice);
  std::vector<std::string> header = {"  candidate", "TPOT ms", "vs off", "TTFT ms",
                                     "output tokens/s"};
  if (has_slo(serving)) header.emplace_back("goodput/s");
  header.insert(header.end(), {"max activated", "replicas GB/GPU", "% of KV", ""});
  Table table(header, 1);
  table.may_leave_out({"TTFT ms", "% of KV", "output tokens/s", "max activated"});
  for (std::size_t i = 0; i < advice.rows.size(); ++i) {
    table.add_row(cells(advice.rows[i], off, has_slo(serving), i == advice.chosen));
  }
  return text + table.text(width);
}

}  // namespace metro::report
