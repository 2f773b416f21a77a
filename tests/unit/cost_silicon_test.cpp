// SPDX-License-Identifier: Apache-2.0
// Expert time against the public table of measured MoE layers, where it is at hand. The constants
// were fitted to it in Python: this also shows that both sides mean the same formula.
// `tools/fit_kernels.py --score` leaves the scored shape out of the fit.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <string>
#include <tuple>

#include "cost/expert_time.hpp"
#include "io/csv_row.hpp"
#include "unit/io_support.hpp"

namespace metro::cost {
namespace {

/// Columns of moe_balanced.csv.
enum Column : std::uint8_t {
  kGpu,
  kFramework,
  kVersion,
  kDtype,
  kTokens,
  kHidden,
  kInter,
  kTopk,
  kExperts,
  kEp,
  kDistribution,
  kLatency,
  kKernel
};

struct Layer {
  std::string gpu;
  std::string engine;
  std::string dtype;
  int tokens, hidden, intermediate, topk, experts, ep;
  auto operator<=>(const Layer&) const = default;
};

/// The fastest kernel's time of every balanced layer that was measured as asked for.
std::map<Layer, double> measured_layers(const std::string& text) {
  std::map<Layer, double> layers;
  std::vector<std::string_view> row;
  io::Lines lines(text);
  for (lines.next(); !lines.done(); lines.next()) {
    if (!io::split_csv_row(lines.line(), row) || row.size() < 13) continue;
    const auto number = [&](Column c) { return std::stoi(std::string(row[c])); };
    const bool grouped_gate = number(kExperts) == 256 && row[kFramework] != "trtllm";
    if (row[kDistribution] != "balanced" || grouped_gate || row[kDtype].starts_with("w4") ||
        row[kDtype] == "fp8") {
      continue;
    }
    const Layer layer{std::string(row[kGpu]),
                      std::string(row[kFramework]),
                      std::string(row[kDtype]),
                      number(kTokens),
                      number(kHidden),
                      number(kInter),
                      number(kTopk),
                      number(kExperts),
                      number(kEp)};
    const double us = std::stod(std::string(row[kLatency]));
    const auto [at, is_new] = layers.try_emplace(layer, us);
    if (!is_new) at->second = std::min(at->second, us);
  }
  return layers;
}

TEST(CostSilicon, ExpertTimeIsThatOfMeasuredLayers) {
  const std::filesystem::path path =
      std::filesystem::path(METRO_SOURCE_DIR) / "../shared/data/silicon/moe_balanced.csv";
  if (!std::filesystem::exists(path)) GTEST_SKIP() << "no ../shared/data beside the source";
  using Shape = std::tuple<std::string, std::string, std::string, int, int>;
  std::map<Shape, ExpertTime> times;
  std::vector<double> errors;
  for (const auto& [layer, us] : measured_layers(io_test::get(path.string()))) {
    const Shape shape{layer.gpu, layer.engine, layer.dtype, layer.hidden, layer.intermediate};
    auto at = times.find(shape);
    if (at == times.end()) {
      at = times
               .try_emplace(shape, *find_gpu(layer.gpu), layer.engine, 1.0, layer.hidden,
                            layer.intermediate, *find_data_type(layer.dtype), nullptr)
               .first;
    }
    const ExpertTime& time = at->second;
    const int active = std::min(layer.experts, layer.tokens * layer.topk);
    const int on_gpu = std::max(1, (active + layer.ep - 1) / layer.ep);
    const double each = 1.0 * layer.tokens * layer.topk / active;
    const double predicted =
        time.base_us() + time.permute_us_per_token() * layer.tokens + on_gpu * time.phi_us(each);
    errors.push_back(std::abs(predicted / us - 1));
  }
  ASSERT_GT(errors.size(), 10000U);
  std::ranges::sort(errors);
  EXPECT_LT(errors[errors.size() / 2], 0.08);
}

}  // namespace
}  // namespace metro::cost
