// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string_view>

#include "cost/roofline.hpp"
#include "metro/gpu.hpp"
#include "metro/model.hpp"

/// Constants fitted to public tables of measured kernels (tools/fit_kernels.py). Each belongs to an
/// architecture, a number format and an engine; what was not measured gets the nearest that was.
namespace metro::cost {

/// GPUs that multiply fp4, fp8, or neither are taken to have kernels alike.
enum class Architecture : std::uint8_t { kAmpere, kHopper, kBlackwell };

Architecture architecture_of(const GpuSpec& gpu) noexcept;

/// Matrix products with few rows.
const Roofline& gemm_roofline(Architecture architecture, DataType weights) noexcept;

/// Attention of one token per request.
const Roofline& attention_roofline(Architecture architecture, std::string_view engine,
                                   AttentionKind kind, DataType kv) noexcept;

/// Routed experts of one GPU: base + token_bytes * T * hidden / memory rate + sum of phi(n), where
/// phi(n) = smooth_max(replica + weights / memory, products / compute) + row_bytes * n * hidden /
/// memory rate. T are the step's tokens over all GPUs, n those of one replica.
struct ExpertKernel {
  double base_us;
  double replica_us;
  double memory_efficiency;
  double compute_efficiency;
  double row_bytes;    ///< for each value of a replica's token
  double token_bytes;  ///< for each value of any token: sorting, clearing and summing
  double sharpness;
};

const ExpertKernel& expert_kernel(Architecture architecture, std::string_view engine,
                                  DataType weights) noexcept;

/// "all-gather", "all-to-all", "reduce-scatter", "all-reduce" as NCCL counts bytes (the larger of
/// one rank's send and receive buffer), "dispatch" and "combine" of low-latency all-to-all kernels
/// in bytes that one rank sends.
enum class Collective : std::uint8_t {
  kAllGather,
  kAllToAll,
  kReduceScatter,
  kAllReduce,
  kDispatch,
  kCombine
};

std::string_view collective_name(Collective collective) noexcept;

struct AlphaBeta {
  double alpha_us;
  double beta_gb_s;
};

/// On one domain of fast links; ranks beyond the largest measured number get that one's.
AlphaBeta alpha_beta(Architecture architecture, Collective collective, int ranks) noexcept;

}  // namespace metro::cost
