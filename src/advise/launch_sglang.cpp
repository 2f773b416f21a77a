// SPDX-License-Identifier: Apache-2.0
// SGLang's command line, and the setting of our plugin for it (python/metro_moe/sglang/plugin.py).
#include <fmt/format.h>

#include "advise/engine_command.hpp"
#include "advise/redundant_experts.hpp"

namespace metro {
namespace {

std::string refusal(const EngineTask& task) {
  if (task.is_grouped()) return "it was not tried with experts shared over groups of GPUs";
  if (!task.replicates()) return "";
  const std::string& policy = task.candidate.policy;
  if (policy == kHomePolicy) return "";
  if (policy != kOptimalPolicy && policy != kPaperPolicy) {
    return fmt::format("it has no policy {}", policy);
  }
  if (task.deployment().dispatch == Dispatch::kAllGather) return "";
  return fmt::format("with all-to-all its ranks see their own tokens, which is not enough for {}",
                     policy);
}

EngineCommand command(const EngineTask& task) {
  const Deployment& deployment = task.deployment();
  const AdviceCandidate& candidate = task.candidate;
  std::vector<std::string> lines;
  std::vector<std::string> notes;
  if (task.replicates()) lines.push_back("METRO_SGLANG_DECODE=" + candidate.policy);
  lines.emplace_back("python -m sglang.launch_server --model-path MODEL");
  lines.push_back(fmt::format("--tp {} --ep-size {}", deployment.gpus, task.expert_groups()));
  if (deployment.attention_ranks() > 1) {
    lines.back() += fmt::format(" --dp {} --enable-dp-attention", deployment.attention_ranks());
  }
  if (task.replicates()) {
    lines.push_back(
        fmt::format("--ep-num-redundant-experts {}", redundant_experts(candidate, task.serving)));
    if (candidate.algorithm == kHomedAlgorithm) {
      // No dispatch algorithm: SGLang takes "dynamic" without an all-to-all backend, and refuses
      // "static".
      lines.emplace_back("--init-expert-location location.json");
      notes.emplace_back(
          "metro_moe.sglang.write_expert_location writes location.json (docs/sglang.md); "
          "--enable-eplb would replace it by SGLang's own placement");
    } else {
      lines.back() += " --enable-eplb";
    }
    notes.emplace_back("our plugin must be installed in SGLang's environment (docs/sglang.md)");
    if (candidate.policy != kHomePolicy) {
      notes.back() += fmt::format("; {} needs CUDA at install time", candidate.policy);
    }
    notes.push_back(
        fmt::format("prompts were simulated with {}; in SGLang its own dispatch serves them",
                    candidate.prefill_policy));
  }
  if (deployment.dispatch == Dispatch::kAllToAll && !candidate.tensor_sharded) {
    notes.emplace_back("name the all-to-all with --moe-a2a-backend");
  }
  return {continued(lines), std::move(notes)};
}

}  // namespace

const EngineCommands kSglangCommands = {"sglang", "SGLang", refusal, command};

}  // namespace metro
