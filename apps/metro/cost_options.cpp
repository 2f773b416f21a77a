// SPDX-License-Identifier: Apache-2.0
#include "cost_options.hpp"

#include <string_view>

#include "metro/error.hpp"
#include "metro/io.hpp"
#include "options.hpp"

namespace metro::cli {
namespace {

constexpr std::string_view kTypes[] = {"fp32", "bf16", "fp8", "fp4"};

}  // namespace

void CostOptions::check() const {
  if (is_given()) return;
  if (shape.first > 0) throw Error(ErrorCode::kUsage, "--shape goes with --cost only");
  if (!dtype.empty()) throw Error(ErrorCode::kUsage, "--dtype goes with --cost only");
}

std::shared_ptr<const ExpertCost> CostOptions::read() const {
  if (!is_given()) return ExpertCost::standard();
  io::ExpertChoice choice{.hidden = shape.first, .intermediate = shape.second};
  if (!dtype.empty()) choice.weights = find_data_type(dtype);
  return std::make_shared<const ExpertCost>(io::read_expert_cost(cost, choice));
}

void add_cost_options(CLI::App& command, CostOptions& options) {
  add_path(command, "--cost", options.cost,
           "Expert times: {\"phi\": [0, us of 1 token, ...], \"beyond\": us, \"base\": us}, or a "
           "calibration\n(default: DeepSeek-V3 in bf16 on an H100)");
  add_size(command, "--shape", options.shape, {.min = 1},
           "Hidden x intermediate width of a calibration's experts, as in 7168x2048");
  add_name(command, "--dtype", options.dtype, kTypes, "Weights of a calibration's experts");
}

}  // namespace metro::cli
