// SPDX-License-Identifier: Apache-2.0
// vLLM's command line, and the settings of our plugin for it (python/metro_moe/vllm/settings.py).
#include <fmt/format.h>

#include "advise/engine_command.hpp"
#include "advise/redundant_experts.hpp"

namespace metro {
namespace {

/// Every rank sees the tokens of all, at the mapping or after a gather.
bool sees_the_batch(const EngineTask& task) {
  return task.deployment().attention_ranks() == 1 ||
         task.deployment().dispatch == Dispatch::kAllGather;
}

std::string refusal(const EngineTask& task) {
  if (task.is_grouped()) return "it does not share experts over groups of GPUs";
  if (!task.replicates()) return "";
  const std::string& policy = task.candidate.policy;
  if (policy == kHashPolicy || policy == kHomePolicy || policy == kPaperPolicy) return "";
  if (policy != kOptimalPolicy) return fmt::format("it has no policy {}", policy);
  if (sees_the_batch(task)) return "";
  return fmt::format("with all-to-all its ranks see their own tokens, which is not enough for {}",
                     policy);
}

/// What the plugin calls a policy. Its `metro` is the paper's greedy.
std::string decode_setting(const std::string& policy) {
  return policy == kPaperPolicy ? "metro" : policy;
}

EngineCommand command(const EngineTask& task) {
  const Deployment& deployment = task.deployment();
  const AdviceCandidate& candidate = task.candidate;
  std::vector<std::string> lines;
  std::vector<std::string> notes;
  if (task.replicates() && candidate.policy != kHashPolicy) {
    lines.push_back("METRO_VLLM_DECODE=" + decode_setting(candidate.policy));
    if (candidate.prefill_policy == kHomePolicy) lines.back() += " METRO_VLLM_PREFILL=home";
    if (candidate.algorithm == kHomedAlgorithm) lines.back() += " METRO_VLLM_PLACEMENT=homed";
    notes.emplace_back("our plugin must be installed in vLLM's environment (docs/vllm.md)");
    if (candidate.policy == kOptimalPolicy) notes.back() += "; optimal needs CUDA at install time";
    if (candidate.prefill_policy != kHomePolicy && candidate.prefill_policy != kHashPolicy) {
      notes.push_back(
          fmt::format("prompts were simulated with {}, which vLLM lacks: its own hash "
                      "serves them",
                      candidate.prefill_policy));
    }
  }
  lines.push_back(fmt::format("vllm serve MODEL --tensor-parallel-size {}", deployment.tp));
  if (deployment.attention_ranks() > 1) {
    lines.back() += fmt::format(" --data-parallel-size {}", deployment.attention_ranks());
  }
  if (!candidate.tensor_sharded) lines.emplace_back("--enable-expert-parallel");
  if (task.replicates()) {
    lines.back() += " --enable-eplb";
    lines.push_back(fmt::format("--eplb-config '{{\"num_redundant_experts\": {}}}'",
                                redundant_experts(candidate, task.serving)));
  }
  if (deployment.dispatch == Dispatch::kAllToAll && deployment.attention_ranks() > 1 &&
      !candidate.tensor_sharded) {
    notes.emplace_back("name the all-to-all with --all2all-backend");
  }
  return {continued(lines), std::move(notes)};
}

}  // namespace

const EngineCommands kVllmCommands = {"vllm", "vLLM", refusal, command};

}  // namespace metro
