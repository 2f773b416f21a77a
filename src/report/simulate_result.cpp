// SPDX-License-Identifier: Apache-2.0
#include "report/simulate_result.hpp"

#include <fmt/format.h>

#include "core/vocabulary.hpp"
#include "report/table.hpp"
#include "serving/option.hpp"

namespace metro::report {
namespace {

using Json = nlohmann::ordered_json;

Json to_json(const serving::OptionValue& value) {
  if (const auto* whole = std::get_if<std::int64_t>(&value)) return *whole;
  if (const auto* real = std::get_if<double>(&value)) return *real;
  if (const auto* text = std::get_if<std::string>(&value)) return *text;
  return nullptr;
}

Json to_json(const Percentiles& p) {
  return {{"mean", p.mean}, {"p50", p.p50}, {"p90", p.p90}, {"p99", p.p99}};
}

void add_times(Table& table, const char* name, const Percentiles& p) {
  table.add_row({name, fmt::format("{:.2f}", p.mean), fmt::format("{:.2f}", p.p50),
                 fmt::format("{:.2f}", p.p90), fmt::format("{:.2f}", p.p99)});
}

}  // namespace

void append_configuration(Json& result, const SimulationConfig& config) {
  for (const serving::Option& option : serving::options()) {
    if (option.key.empty() || (option.applies != nullptr && !option.applies(config))) continue;
    const std::size_t dot = option.key.find('.');
    Json& parent = dot == std::string::npos ? result : result[option.key.substr(0, dot)];
    parent[option.key.substr(dot == std::string::npos ? 0 : dot + 1)] =
        to_json(option.in_force(config));
  }
}

void append_simulation(Json& result, const SimulationConfig& config,
                       const SimulationResult& simulated) {
  const double gpus = config.deployment.gpus;
  result["requests"] = {{"submitted", simulated.submitted},
                        {"completed", simulated.completed},
                        {"rejected", simulated.rejected}};
  result["prompt_tokens"] = simulated.prompt_tokens;
  result["output_tokens"] = simulated.output_tokens;
  result["ttft_ms"] = to_json(simulated.ttft_ms);
  result["tpot_ms"] = to_json(simulated.tpot_ms);
  result["itl_ms"] = to_json(simulated.itl_ms);
  result["latency_ms"] = to_json(simulated.latency_ms);
  result["output_tokens_per_s"] = simulated.output_tokens_per_s;
  result["total_tokens_per_s"] = simulated.total_tokens_per_s;
  result["output_tokens_per_s_per_gpu"] = simulated.output_tokens_per_s / gpus;
  result["total_tokens_per_s_per_gpu"] = simulated.total_tokens_per_s / gpus;
  result["goodput_requests_per_s"] = simulated.goodput_requests_per_s;
  result["mean_in_flight"] = simulated.mean_in_flight;
  result["mean_batch"] = simulated.mean_batch;
  result["kv_use"] = simulated.kv_use;
  result["kv_use_peak"] = simulated.kv_use_peak;
  result["max_activated"] = simulated.max_activated;
  result["max_activated_prefill"] = simulated.max_activated_prefill;
  Json shares = Json::object();
  for (const auto& [stage, share] : simulated.stage_share) shares[stage] = share;
  result["stage_share"] = std::move(shares);
  result["steps"] = simulated.steps;
  result["preemptions"] = simulated.preemptions;
  result["recomputed_tokens"] = simulated.recomputed_tokens;
  result["rearranged_bytes"] = simulated.rearranged_bytes;
  if (simulated.prefill_gpus > 0) {
    result["pools"] = {{"prefill_gpus", simulated.prefill_gpus},
                       {"decode_gpus", simulated.decode_gpus}};
  }
  result["memory"] = {{"weights_bytes", simulated.memory.weights_bytes},
                      {"replica_bytes", simulated.memory.replica_bytes},
                      {"kv_bytes_per_token", simulated.memory.kv_bytes_per_token},
                      {"kv_capacity_tokens", simulated.kv_capacity_tokens}};
  result["simulated_s"] = simulated.simulated_s;
}

std::string simulation_table(const SimulationConfig& config, const SimulationResult& simulated,
                             double wall_s) {
  const Deployment& deployment = config.deployment;
  const auto in_force = [&config](std::string_view name) {
    return serving::in_force_text(name, config);
  };
  std::string text = fmt::format(
      "{} ({}) on {} x {}, tp {}, ep {}, {}; {}x {}, {} for decode and {} for prefill.\n"
      "Simulated ({} fidelity, routing {}, seed {}): {:.1f} s of serving in {:.2f} s.\n\n",
      config.model.name, data_type_name(deployment.expert_weights), deployment.gpus,
      config.gpu.name, deployment.tp, in_force("ep"),
      deployment.tensor_sharded_experts ? kMoeTp : "whole experts", config.replication,
      config.algorithm, config.policy, config.prefill_policy, in_force("fidelity"),
      in_force("routing"), config.seed, simulated.simulated_s, wall_s);

  Table times({"ms", "mean", "p50", "p90", "p99"}, 1);
  add_times(times, "TTFT", simulated.ttft_ms);
  add_times(times, "TPOT", simulated.tpot_ms);
  add_times(times, "ITL", simulated.itl_ms);
  add_times(times, "latency", simulated.latency_ms);
  text += times.text() + "\n";

  Table facts({"", ""}, 1);
  const auto add = [&facts](const char* name, std::string value) {
    facts.add_row({name, std::move(value)});
  };
  add("requests completed", fmt::format("{} of {}", simulated.completed, simulated.submitted));
  add("requests rejected", fmt::format("{}", simulated.rejected));
  add("output tokens/s", fmt::format("{:.1f}", simulated.output_tokens_per_s));
  add("total tokens/s per GPU",
      fmt::format("{:.1f}", simulated.total_tokens_per_s / deployment.gpus));
  add("goodput, requests/s", fmt::format("{:.3f}", simulated.goodput_requests_per_s));
  add("requests of a decode step", fmt::format("{:.1f}", simulated.mean_batch));
  add("max activated, decode", fmt::format("{:.2f}", simulated.max_activated));
  add("KV cache in use",
      fmt::format("{:.1f} % (peak {:.1f} %)", 100 * simulated.kv_use, 100 * simulated.kv_use_peak));
  add("preemptions", fmt::format("{}", simulated.preemptions));
  add("weights per GPU, GB", fmt::format("{:.1f}", simulated.memory.weights_bytes * 1e-9));
  for (const auto& [stage, share] : simulated.stage_share) {
    if (share >= 0.0005) {
      add(("time: " + stage).c_str(), fmt::format("{:.1f} %", 100 * share));
    }
  }
  const std::string body = facts.text();
  return text + body.substr(body.find('\n') + 1);
}

}  // namespace metro::report
