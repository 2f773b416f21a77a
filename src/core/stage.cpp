// SPDX-License-Identifier: Apache-2.0
#include "metro/stage.hpp"

#include <array>

namespace metro {
namespace {

constexpr std::array<std::string_view, kNumStages> kStageNames = {
    "attention", "attention_sum", "dense",   "shared",  "gate", "dispatch", "exchange",
    "route",     "permute",       "experts", "combine", "head", "overhead"};

}  // namespace

std::string_view stage_name(Stage stage) noexcept {
  return kStageNames[static_cast<std::size_t>(stage)];
}

}  // namespace metro
