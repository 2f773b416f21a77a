// SPDX-License-Identifier: Apache-2.0
#include "reproduce/pairs.hpp"

#include <fmt/format.h>

#include <array>
#include <cstddef>

#include "core/rng.hpp"

namespace metro::reproduction {
namespace {

// A100: 32 tokens a GPU, as its CUDA graphs go. B200: the simulator's batch of 1024.
constexpr std::array kPairs = {
    Pair{"Qwen3-30B-A3B", "A100-40G", 8, 40e9, 256},
    Pair{"Qwen3-235B-A22B", "B200", 8, 192e9, 1024},
    Pair{"DeepSeek-V3", "B200", 16, 192e9, 1024},
};

constexpr std::array kSystems = {kEplb, kMetro, kOptimal, kNone, kHome, kHomed, kMoeTp};

}  // namespace

std::span<const Pair> pairs() noexcept { return kPairs; }

std::string pair_name(const Pair& pair) {
  return fmt::format("{} on {} x {}", pair.model, pair.gpus, pair.gpu);
}

std::span<const System> systems() noexcept { return kSystems; }

std::vector<Request> make_requests(const Workload& workload, int in_flight, std::uint64_t seed) {
  std::vector<Request> requests(static_cast<std::size_t>(workload.rounds) *
                                static_cast<std::size_t>(in_flight));
  Rng rng(seed);
  const auto draw = [&rng](int mean) {
    return mean / 2 + static_cast<std::int32_t>(rng.below(static_cast<std::uint32_t>(mean) + 1));
  };
  for (Request& request : requests) {
    request.prompt_tokens = draw(workload.prompt);
    request.output_tokens = draw(workload.output);
  }
  return requests;
}

}  // namespace metro::reproduction
