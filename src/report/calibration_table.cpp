// SPDX-License-Identifier: Apache-2.0
#include "report/calibration_table.hpp"

#include <fmt/format.h>

#include <cstdint>

#include "report/table.hpp"

namespace metro::report {
namespace {

/// phi of so many tokens, or nothing where no point had them.
std::string phi_text(const Calibration::ExpertTime& expert, std::int64_t tokens) {
  for (const auto& [count, us] : expert.phi_us) {
    if (count == tokens) return fmt::format("{:.1f}", us);
  }
  return "";
}

}  // namespace

std::string calibration_table(const Calibration& calibration,
                              const std::vector<std::string>& left_out) {
  std::string text = fmt::format(
      "{} ({}); measured. A copy reaches {:.0f} GB/s, a bf16 product {:.3g} TFLOPS.\n\n"
      "Activated experts: base + the sum of phi(tokens), us; fitted to the points.\n",
      calibration.gpu, calibration.device, calibration.copy_gb_s, calibration.gemm_tflops);
  Table experts({"hidden", "width", "dtype", "base", "phi(1)", "phi(8)", "phi(64)", "phi(256)",
                 "points", "median error %"},
                3);
  for (const Calibration::ExpertTime& expert : calibration.experts) {
    experts.add_row({fmt::format("{}", expert.hidden), fmt::format("{}", expert.intermediate),
                     std::string(data_type_name(expert.weights)),
                     fmt::format("{:.1f}", expert.base_us), phi_text(expert, 1),
                     phi_text(expert, 8), phi_text(expert, 64), phi_text(expert, 256),
                     fmt::format("{}", expert.points.size()),
                     fmt::format("{:.1f}", 100 * expert.median_error)});
  }
  text += experts.text();
  if (!calibration.collectives.empty()) {
    Table collectives({"collective", "GPUs", "alpha us", "GB/s", "median error %"}, 1);
    for (const Calibration::Collective& line : calibration.collectives) {
      collectives.add_row(
          {line.name, fmt::format("{}", line.gpus), fmt::format("{:.1f}", line.alpha_us),
           fmt::format("{:.1f}", line.beta_gb_s), fmt::format("{:.1f}", 100 * line.median_error)});
    }
    text += fmt::format("\n{}", collectives.text());
  }
  Table routers({"policy", "us a layer"}, 1);
  for (const auto& [policy, us] : calibration.router_us) {
    routers.add_row({policy, fmt::format("{:.2f}", us)});
  }
  text += fmt::format("\n{}", routers.text());
  for (const std::string& line : left_out) text += fmt::format("\nLeft out: {}", line);
  if (!left_out.empty()) text += "\n";
  return text;
}

}  // namespace metro::report
