// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "metro/advise.hpp"

namespace metro {

/// What an engine is asked to run.
struct EngineTask {
  const SimulationConfig& serving;
  const AdviceCandidate& candidate;

  [[nodiscard]] const Deployment& deployment() const noexcept { return serving.deployment; }
  [[nodiscard]] bool replicates() const noexcept { return candidate.replication > 1; }
  /// Groups of GPUs that hold whole experts between them; 1 with moe-TP.
  [[nodiscard]] int expert_groups() const noexcept {
    return candidate.tensor_sharded ? 1 : deployment().expert_gpus() / candidate.shards;
  }
  /// Several GPUs share an expert, and not all.
  [[nodiscard]] bool is_grouped() const noexcept {
    return expert_groups() > 1 && expert_groups() < deployment().gpus;
  }
};

/// An engine's command line, and what stands beside it.
struct EngineCommand {
  std::string text;  ///< for a shell
  std::vector<std::string> notes;
};

/// One engine that advice can be given for.
struct EngineCommands {
  std::string_view name;   ///< as --engine has it
  std::string_view title;  ///< as its makers write it
  /// Why it cannot run the task: a clause. Empty: it can.
  std::string (*refusal)(const EngineTask& task);
  EngineCommand (*command)(const EngineTask& task);
};

extern const EngineCommands kVllmCommands;
extern const EngineCommands kSglangCommands;
extern const EngineCommands kTensorRtLlmCommands;

/// Lines of a command, each but the last continued.
std::string continued(const std::vector<std::string>& lines);

}  // namespace metro
