// SPDX-License-Identifier: Apache-2.0
// TensorRT-LLM's options, a YAML file; the load balancer's is metro_moe.tensorrt_llm's.
#include <fmt/format.h>

#include "advise/engine_command.hpp"

namespace metro {
namespace {

std::string refusal(const EngineTask& task) {
  const Deployment& deployment = task.deployment();
  if (deployment.tp != 1 && deployment.tp != deployment.gpus) {
    return fmt::format("it shares attention over all GPUs or none, not over {}", deployment.tp);
  }
  // Its round-robin wakes every replica with equal parts, as the even split does.
  if (!task.replicates() || task.candidate.policy == kEvenPolicy) return "";
  return "it routes round-robin over replicas and has no other policy";
}

EngineCommand command(const EngineTask& task) {
  const Deployment& deployment = task.deployment();
  const bool shares_attention = deployment.attention_ranks() == 1;
  std::string text = fmt::format(
      "cat > options.yaml <<END\n"
      "tensor_parallel_size: {}\n"
      "moe_expert_parallel_size: {}\n"
      "moe_tensor_parallel_size: {}\n"
      "enable_attention_dp: {}\n",
      deployment.gpus, task.expert_groups(), deployment.gpus / task.expert_groups(),
      shares_attention ? "false" : "true");
  std::vector<std::string> notes;
  if (task.replicates()) {
    text += "moe_config:\n  load_balancer: moe_load_balancer.yaml\n";
    notes.emplace_back(
        "metro_moe.tensorrt_llm.write_config writes moe_load_balancer.yaml "
        "(docs/tensorrt-llm.md)");
  }
  text += "END\ntrtllm-serve MODEL --config options.yaml";
  return {std::move(text), std::move(notes)};
}

}  // namespace

const EngineCommands kTensorRtLlmCommands = {"trtllm", "TensorRT-LLM", refusal, command};

}  // namespace metro
