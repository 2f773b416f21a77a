// SPDX-License-Identifier: Apache-2.0
#include "metro/calibration.hpp"

#include <fmt/format.h>

#include <cmath>

#include "metro/error.hpp"

namespace metro {
namespace {

/// Of tokens, experts and their ratio in a point: products fit 32 bits.
constexpr std::int64_t kMaxCount = 32'768;
constexpr std::int64_t kMaxSize = 1'000'000'000;           ///< of a width, in elements; of GPUs
constexpr std::int64_t kMaxBytes = std::int64_t{1} << 50;  ///< of a collective

// No device is near these; what is between them leaves every time that is computed finite.
constexpr double kMost = 1e9;
constexpr double kLeast = 1e-6;  ///< of what is divided by, or is a time that must pass

/// From 0 or, where that has no meaning, from kLeast.
void check_number(const std::string& field, double value, bool may_be_zero) {
  // Written so that NaN fails too.
  if (value >= (may_be_zero ? 0 : kLeast) && value <= kMost) return;
  throw Error(ErrorCode::kInput, fmt::format("{} is {}, must be a number {}..{}", field, value,
                                             may_be_zero ? 0 : kLeast, kMost));
}

/// 0: unknown.
void check_rate(const std::string& field, double value) {
  if (value == 0 || (value >= kLeast && value <= kMost)) return;
  throw Error(ErrorCode::kInput, fmt::format("{} is {}, must be a number {}..{}, or 0 for unknown",
                                             field, value, kLeast, kMost));
}

void check_count(const std::string& field, std::int64_t value, std::int64_t most = kMaxCount) {
  if (value >= 1 && value <= most) return;
  throw Error(ErrorCode::kInput, fmt::format("{} is {}, must be in 1..{}", field, value, most));
}

void check_point(const Calibration::ExpertPoint& point, const std::string& field) {
  check_count(field + ".activated", point.activated);
  check_count(field + ".tokens", point.tokens);
  check_count(field + ".skew", point.skew);
  check_number(field + ".us", point.us, false);
}

void check_expert(const Calibration::ExpertTime& expert, const std::string& field) {
  check_count(field + ".hidden", expert.hidden, kMaxSize);
  check_count(field + ".intermediate", expert.intermediate, kMaxSize);
  check_number(field + ".base_us", expert.base_us, true);
  if (expert.phi_us.empty()) {
    throw Error(ErrorCode::kInput, field + ".phi_us is empty, must have a [tokens, us] pair");
  }
  std::int64_t before = 0;
  for (std::size_t i = 0; i < expert.phi_us.size(); ++i) {
    const auto& [tokens, us] = expert.phi_us[i];
    if (tokens <= before) {
      throw Error(ErrorCode::kInput,
                  fmt::format("{}.phi_us[{}][0] is {}, must be above {}: tokens ascend from 1",
                              field, i, tokens, before));
    }
    before = tokens;
    check_number(fmt::format("{}.phi_us[{}][1]", field, i), us, false);
  }
  check_number(field + ".median_error", expert.median_error, true);
  for (std::size_t i = 0; i < expert.points.size(); ++i) {
    check_point(expert.points[i], fmt::format("{}.points[{}]", field, i));
  }
}

void check_collective(const Calibration::Collective& collective, const std::string& field) {
  check_count(field + ".gpus", collective.gpus, kMaxSize);
  check_number(field + ".alpha_us", collective.alpha_us, true);
  check_number(field + ".beta_gb_s", collective.beta_gb_s, false);
  check_number(field + ".median_error", collective.median_error, true);
  for (std::size_t i = 0; i < collective.points.size(); ++i) {
    const auto& [bytes, us] = collective.points[i];
    check_count(fmt::format("{}.points[{}][0]", field, i), bytes, kMaxBytes);
    check_number(fmt::format("{}.points[{}][1]", field, i), us, false);
  }
}

void check_engine(const Calibration::Engine& engine, const std::string& field) {
  check_number(field + ".kernel_scale", engine.kernel_scale, true);
  check_number(field + ".collective_scale", engine.collective_scale, true);
  check_number(field + ".layer_us", engine.layer_us, true);
  check_number(field + ".step_us", engine.step_us, true);
  check_number(field + ".prefill_layer_us", engine.prefill_layer_us, true);
  check_number(field + ".quantise_us", engine.quantise_us, true);
  check_number(field + ".row_bytes", engine.row_bytes, true);
  check_number(field + ".prefill_attention", engine.prefill_attention, false);
  check_number(field + ".shared_exposed", engine.shared_exposed, true);
  check_number(field + ".first_token_us", engine.first_token_us, true);
  check_number(field + ".clumping", engine.clumping, true);
}

}  // namespace

std::vector<std::int32_t> Calibration::ExpertPoint::tokens_per_expert() const {
  std::vector<std::int32_t> counts(static_cast<std::size_t>(activated),
                                   static_cast<std::int32_t>(tokens));
  if (!counts.empty()) counts.front() = static_cast<std::int32_t>(tokens * skew);
  return counts;
}

void Calibration::validate() const {
  check_rate("copy_gb_s", copy_gb_s);
  check_rate("gemm_tflops", gemm_tflops);
  for (std::size_t i = 0; i < experts.size(); ++i) {
    check_expert(experts[i], fmt::format("experts[{}]", i));
  }
  for (std::size_t i = 0; i < collectives.size(); ++i) {
    check_collective(collectives[i], fmt::format("collectives[{}]", i));
  }
  for (const auto& [policy, us] : router_us) {
    check_number(fmt::format("router_us.{}", policy), us, true);
  }
  for (std::size_t i = 0; i < engines.size(); ++i) {
    check_engine(engines[i], fmt::format("engines[{}]", i));
  }
}

}  // namespace metro
