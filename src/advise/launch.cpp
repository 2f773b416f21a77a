// SPDX-License-Identifier: Apache-2.0
#include "advise/launch.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <vector>

#include "advise/choice.hpp"
#include "advise/engine_command.hpp"
#include "core/lower_case.hpp"

namespace metro {
namespace {

const EngineCommands* find_engine(std::string_view name) {
  static const std::array kEngines = {&kVllmCommands, &kSglangCommands, &kTensorRtLlmCommands};
  const auto found = std::ranges::find_if(kEngines, [&](const EngineCommands* engine) {
    return equal_ignoring_case(engine->name, name);
  });
  return found == kEngines.end() ? nullptr : *found;
}

std::string refusal_of(const EngineCommands& engine, const EngineTask& task) {
  if (task.serving.prefill_gpus > 0) return "prefill has GPUs of its own, which takes two servers";
  return engine.refusal(task);
}

/// What holds for every engine.
std::vector<std::string> common_notes(const EngineTask& task) {
  const Deployment& deployment = task.deployment();
  const int near = deployment.gpus_per_domain > 0 ? deployment.gpus_per_domain
                                                  : task.serving.gpu.gpus_per_domain;
  if (deployment.gpus <= near) return {};
  return {
      fmt::format("{} GPUs are more than fast links join ({}): add what the engine wants to "
                  "know of several hosts",
                  deployment.gpus, near)};
}

}  // namespace

std::string continued(const std::vector<std::string>& lines) {
  return fmt::format("{}", fmt::join(lines, " \\\n    "));
}

std::optional<EngineLaunch> launch_of(const SimulationConfig& serving, const Advice& advice,
                                      double margin) {
  const EngineCommands* engine = find_engine(serving.deployment.engine);
  if (engine == nullptr) return std::nullopt;
  EngineLaunch launch;
  launch.engine = engine->title;
  launch.refusal = refusal_of(*engine, {serving, advice.choice().candidate});
  std::size_t row = advice.chosen;
  if (!launch.refusal.empty()) {
    std::vector<std::size_t> can_run;
    for (std::size_t i = 0; i < advice.rows.size(); ++i) {
      const AdviceRow& at = advice.rows[i];
      if (at.eligible && refusal_of(*engine, {serving, at.candidate}).empty()) can_run.push_back(i);
    }
    if (can_run.empty()) return launch;
    row = least_change(advice, can_run, margin);
  }
  const EngineTask task{serving, advice.rows[row].candidate};
  EngineCommand command = engine->command(task);
  launch.row = row;
  launch.command = std::move(command.text);
  launch.notes = std::move(command.notes);
  for (std::string& note : common_notes(task)) launch.notes.push_back(std::move(note));
  return launch;
}

}  // namespace metro
