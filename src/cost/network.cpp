// SPDX-License-Identifier: Apache-2.0
#include "cost/network.hpp"

#include <algorithm>

namespace metro::cost {
namespace {

/// Low-latency all-to-all over 2 to 8 nodes starts 8 to 20 us later than within one, and reaches
/// 94 % of the network's rate; public tables of such kernels on Hopper.
constexpr double kHopUs = 14;
constexpr double kNetworkEfficiency = 0.94;

/// Share of a collective's bytes that each GPU sends or gets over the network.
double network_share(Collective collective, double domains, double ranks) noexcept {
  const double remote = (domains - 1) / domains;
  switch (collective) {
    case Collective::kAllGather:
    case Collective::kReduceScatter:
      return remote * domains / ranks;
    case Collective::kAllReduce:
      return 2 * remote * domains / ranks;
    case Collective::kAllToAll:
    case Collective::kDispatch:
    case Collective::kCombine:
      return remote;
  }
  return 1;
}

}  // namespace

Network::Network(const GpuSpec& gpu, int gpus_per_domain, double alpha_scale,
                 const Calibration* calibration)
    : gpu_(gpu),
      gpus_per_domain_(gpus_per_domain > 0 ? gpus_per_domain : gpu.gpus_per_domain),
      alpha_scale_(alpha_scale),
      calibration_(calibration) {}

AlphaBeta Network::line(Collective collective, int ranks) const {
  if (ranks <= 1) return {0, 1e9};
  const int inside = std::min(ranks, gpus_per_domain_);
  const auto& measured_on = collective_time(architecture_of(gpu_), collective, std::max(inside, 2));
  AlphaBeta line = measured_on.line;
  line.alpha_us *= alpha_scale_;
  line.beta_gb_s *= gpu_.link_bytes_per_s / measured_on.link_bytes_per_s;
  if (calibration_ != nullptr) {
    for (const Calibration::Collective& measured : calibration_->collectives) {
      if (measured.gpus == inside && measured.name == collective_name(collective)) {
        line = {measured.alpha_us, measured.beta_gb_s};
      }
    }
  }
  if (ranks > gpus_per_domain_) {
    const double domains = static_cast<double>(ranks) / gpus_per_domain_;
    const double us_per_kb =
        1 / line.beta_gb_s + network_share(collective, domains, ranks) /
                                 (kNetworkEfficiency * gpu_.internode_bytes_per_s / 1e9);
    line = {line.alpha_us + kHopUs, 1 / us_per_kb};
  }
  return line;
}

}  // namespace metro::cost
