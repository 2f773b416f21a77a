// SPDX-License-Identifier: Apache-2.0
#include "cost/kernel_table.hpp"

#include <algorithm>

#include "io/builtin_constants.hpp"

namespace metro::cost {
namespace {

/// The entry with the least distance; tables are a few dozen rows.
template <typename Entry, typename Distance>
const Entry& nearest(const std::vector<Entry>& table, Distance distance) {
  return *std::ranges::min_element(table, {}, distance);
}

/// What was measured on this architecture, else on the one before or after it.
int distance(Architecture a, Architecture b) noexcept {
  return std::abs(static_cast<int>(a) - static_cast<int>(b));
}

int distance(DataType a, DataType b) noexcept {
  return std::abs(static_cast<int>(a) - static_cast<int>(b));
}

/// The engine itself, else all together, else some other.
int distance(std::string_view entry, std::string_view engine) noexcept {
  if (entry == engine) return 0;
  return entry.empty() ? 1 : 2;
}

}  // namespace

Architecture architecture_of(const GpuSpec& gpu) noexcept {
  if (gpu.fp4_flops > 0) return Architecture::kBlackwell;
  return gpu.fp8_flops > 0 ? Architecture::kHopper : Architecture::kAmpere;
}

const Roofline& gemm_roofline(Architecture architecture, DataType weights) {
  return nearest(io::builtin_kernels().gemms,
                 [&](const KernelConstants::Gemm& entry) {
                   return 10 * distance(entry.architecture, architecture) +
                          distance(entry.weights, weights);
                 })
      .roofline;
}

const Roofline& attention_roofline(Architecture architecture, std::string_view engine,
                                   AttentionKind kind, DataType kv) {
  return nearest(io::builtin_kernels().attention,
                 [&](const KernelConstants::Attention& entry) {
                   return (entry.kind != kind ? 1000 : 0) +
                          100 * distance(entry.architecture, architecture) +
                          10 * distance(entry.kv, kv) + distance(entry.engine, engine);
                 })
      .roofline;
}

const ExpertKernel& expert_kernel(Architecture architecture, std::string_view engine,
                                  DataType weights) {
  return nearest(io::builtin_kernels().experts,
                 [&](const KernelConstants::Expert& entry) {
                   return 100 * distance(entry.architecture, architecture) +
                          10 * distance(entry.weights, weights) + distance(entry.engine, engine);
                 })
      .kernel;
}

const KernelConstants::CollectiveTime& collective_time(Architecture architecture,
                                                       Collective collective, int ranks) {
  return nearest(
      io::builtin_kernels().collectives, [&](const KernelConstants::CollectiveTime& entry) {
        // The next larger number of ranks before a smaller one.
        const int more = entry.gpus - ranks;
        return (entry.collective != collective ? 10000 : 0) +
               1000 * distance(entry.architecture, architecture) + (more >= 0 ? more : 100 - more);
      });
}

}  // namespace metro::cost
