// SPDX-License-Identifier: Apache-2.0
#include "cost/kernel_table.hpp"

#include <algorithm>
#include <array>

namespace metro::cost {
namespace {

struct GemmEntry {
  Architecture architecture;
  DataType weights;
  Roofline roofline;
};

struct AttentionEntry {
  Architecture architecture;
  std::string_view engine;  ///< "": all engines together
  AttentionKind kind;
  DataType kv;
  Roofline roofline;
};

struct ExpertEntry {
  Architecture architecture;
  std::string_view engine;
  DataType weights;
  ExpertKernel kernel;
};

struct CollectiveEntry {
  Architecture architecture;
  Collective collective;
  int ranks;
  AlphaBeta line;
};

#include "cost/kernel_table.inc"

/// The entry with the least distance; tables are a few dozen rows and read by constructors only.
template <typename Table, typename Distance>
const auto& nearest(const Table& table, Distance distance) noexcept {
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

const Roofline& gemm_roofline(Architecture architecture, DataType weights) noexcept {
  return nearest(kGemmTable,
                 [&](const GemmEntry& entry) {
                   return 10 * distance(entry.architecture, architecture) +
                          distance(entry.weights, weights);
                 })
      .roofline;
}

const Roofline& attention_roofline(Architecture architecture, std::string_view engine,
                                   AttentionKind kind, DataType kv) noexcept {
  return nearest(kAttentionTable,
                 [&](const AttentionEntry& entry) {
                   return (entry.kind != kind ? 1000 : 0) +
                          100 * distance(entry.architecture, architecture) +
                          10 * distance(entry.kv, kv) + distance(entry.engine, engine);
                 })
      .roofline;
}

const ExpertKernel& expert_kernel(Architecture architecture, std::string_view engine,
                                  DataType weights) noexcept {
  return nearest(kExpertTable,
                 [&](const ExpertEntry& entry) {
                   return 100 * distance(entry.architecture, architecture) +
                          10 * distance(entry.weights, weights) + distance(entry.engine, engine);
                 })
      .kernel;
}

std::string_view collective_name(Collective collective) noexcept {
  constexpr std::array<std::string_view, 6> names = {"all-gather", "all-to-all", "reduce-scatter",
                                                     "all-reduce", "dispatch",   "combine"};
  return names[static_cast<std::size_t>(collective)];
}

AlphaBeta alpha_beta(Architecture architecture, Collective collective, int ranks) noexcept {
  return nearest(kCollectiveTable,
                 [&](const CollectiveEntry& entry) {
                   // The next larger number of ranks before a smaller one.
                   const int more = entry.ranks - ranks;
                   return (entry.collective != collective ? 10000 : 0) +
                          1000 * distance(entry.architecture, architecture) +
                          (more >= 0 ? more : 100 - more);
                 })
      .line;
}

}  // namespace metro::cost
