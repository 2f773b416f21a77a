// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include "metro/error.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "metro/simulate.hpp"
#include "metro/trace_generator.hpp"

namespace metro {
namespace {

void need(bool ok, const char* field, double value, const std::string& right) {
  if (ok) return;
  throw Error(ErrorCode::kUsage, fmt::format("{} is {:g}, must be {}", field, value, right));
}

void need_name(bool known, const char* kind, const std::string& name) {
  if (!known) throw Error(ErrorCode::kUsage, fmt::format("unknown {} '{}'", kind, name));
}

}  // namespace

void SimulationConfig::validate() const {
  constexpr int kMaxDrafts = 64;
  model.validate();
  deployment.validate(model);
  need(replication >= 1, "replication", replication, "at least 1");
  need(!deployment.tensor_sharded_experts || replication == 1, "replication", replication,
       "1 with moe-TP: every GPU has its part of each expert");
  need_name(find_placement_algorithm(algorithm) != nullptr, "placement algorithm", algorithm);
  for (const std::string& name : {policy, prefill_policy}) {
    if (name != kAutoPolicy) require_policy(name);
  }
  need_name(profile.empty() || find_router_profile(profile) != nullptr, "router profile", profile);
  need(rearrange_every >= 0, "rearrange_every", static_cast<double>(rearrange_every), "0 or more");
  need(concurrency >= 0, "concurrency", concurrency, "0 or more");
  need(max_batch >= 0, "max_batch", max_batch, "0 or more");
  need(chunk >= 1, "chunk", chunk, "at least 1");
  need(draft_tokens >= 0 && draft_tokens <= kMaxDrafts, "draft_tokens", draft_tokens,
       fmt::format("0..{}", kMaxDrafts));
  need(draft_acceptance >= 0 && draft_acceptance <= 1, "draft_acceptance", draft_acceptance,
       "0..1");
  need(prefill_gpus >= 0 && prefill_gpus < deployment.gpus, "prefill_gpus", prefill_gpus,
       fmt::format("0..{}: others must decode", deployment.gpus - 1));
  need(slo_tpot_ms >= 0, "slo_tpot_ms", slo_tpot_ms, "0 or more");
  need(slo_ttft_ms >= 0, "slo_ttft_ms", slo_ttft_ms, "0 or more");
  need(timeline_steps >= 0, "timeline_steps", static_cast<double>(timeline_steps), "0 or more");
  for (std::size_t i = 0; i < requests.size(); ++i) {
    const Request& request = requests[i];
    const bool ok = request.arrival_s >= (i == 0 ? 0 : requests[i - 1].arrival_s) &&
                    request.prompt_tokens >= 0 && request.prompt_tokens <= kMaxRequestTokens &&
                    request.output_tokens >= 0 && request.output_tokens <= kMaxRequestTokens;
    if (!ok) {
      throw Error(
          ErrorCode::kUsage,
          fmt::format("requests[{}] arrives at {:g} s with {} + {} tokens, must be in order "
                      "of arrival from 0 with 0..{} tokens each",
                      i, request.arrival_s, request.prompt_tokens, request.output_tokens,
                      kMaxRequestTokens));
    }
  }
}

}  // namespace metro
