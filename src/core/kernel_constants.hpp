// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "metro/model.hpp"

/// Constants fitted to public tables of measured kernels (tools/fit_kernels.py): records that io
/// fills from data/constants/kernels.json.
namespace metro {

/// GPUs that multiply fp4, fp8, or neither are taken to have kernels alike.
enum class Architecture : std::uint8_t { kAmpere, kHopper, kBlackwell };

/// "ampere", "hopper" or "blackwell".
std::string_view architecture_name(Architecture architecture) noexcept;

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

/// What a kind of kernel reaches of a GPU's rates.
struct Roofline {
  double fixed_us;
  double memory_efficiency;
  double compute_efficiency;
  double sharpness;  ///< 1: memory and arithmetic take turns; 8: they overlap fully
};

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

struct AlphaBeta {
  double alpha_us;
  double beta_gb_s;
};

struct KernelConstants {
  struct Gemm {
    Architecture architecture;
    DataType weights;
    Roofline roofline;
  };
  struct Attention {
    Architecture architecture;
    std::string engine;  ///< "": all engines together
    AttentionKind kind;
    DataType kv;
    Roofline roofline;
  };
  struct Expert {
    Architecture architecture;
    std::string engine;  ///< "": all engines together
    DataType weights;
    ExpertKernel kernel;
  };
  struct CollectiveTime {
    Architecture architecture;
    Collective collective;
    int gpus;
    double link_bytes_per_s;  ///< of the GPUs that it was measured on
    AlphaBeta line;
  };

  std::vector<Gemm> gemms;
  std::vector<Attention> attention;
  std::vector<Expert> experts;
  std::vector<CollectiveTime> collectives;
};

}  // namespace metro
