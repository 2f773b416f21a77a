// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "metro/model.hpp"

namespace metro {

/// Times measured on one GPU, which the cost model uses where it has them: the file that
/// `metro calibrate` writes (docs/formats.md), read by `io::read_calibration`.
struct Calibration {
  /// Activated experts with `tokens` tokens each, the first with `skew` times as many: a batch as
  /// it was timed.
  struct ExpertPoint {
    int activated = 0;
    std::int64_t tokens = 0;
    std::int64_t skew = 1;
    double us = 0;

    /// [activated] tokens of each expert.
    [[nodiscard]] std::vector<std::int32_t> tokens_per_expert() const;
    friend bool operator==(const ExpertPoint&, const ExpertPoint&) = default;
  };

  /// Routed experts of one GPU: base_us + sum of phi(tokens of each replica).
  struct ExpertTime {
    int hidden = 0;
    int intermediate = 0;
    DataType weights = DataType::kBf16;
    double base_us = 0;
    /// (tokens, phi), tokens ascending from 1 up; linear between, and beyond the last two.
    std::vector<std::pair<std::int64_t, double>> phi_us;
    std::vector<ExpertPoint> points{};  ///< what base and phi are fitted to; may be left out
    double median_error = 0;            ///< of |fit / point - 1|
  };

  /// alpha_us + bytes / beta: bytes as NCCL counts them, the larger of a rank's two buffers.
  struct Collective {
    std::string name;  ///< "all-gather", "all-to-all", "reduce-scatter" or "all-reduce"
    int gpus = 0;
    double alpha_us = 0;
    double beta_gb_s = 0;
    std::vector<std::pair<std::int64_t, double>> points{};  ///< (bytes, us), may be left out
    double median_error = 0;                                ///< of |fit / point - 1|
  };

  /// What a serving engine adds to its kernels. Fitted, not measured.
  struct Engine {
    std::string name;
    double kernel_scale = 1;      ///< fixed time of a kernel in a step, over that measured alone
    double collective_scale = 1;  ///< alpha of the engine's collectives over NCCL's
    double layer_us = 0;          ///< norms, rotations and gaps of one layer
    double step_us = 0;           ///< scheduling and sampling between steps
    double prefill_layer_us = 0;  ///< more of a layer in a step that prefills, outside CUDA graphs
    double quantise_us = 0;       ///< narrowing the input of a dense layer with fp8 or fp4 weights
    double row_bytes = 0;         ///< elementwise traffic of a layer, for each value of a token
    double prefill_attention = 0.5;  ///< share of the bf16 peak
    double shared_exposed = 1;  ///< share of the shared expert not hidden behind the routed ones
    double first_token_us = 0;  ///< from a request's arrival to its first prefill, idle engine
    double clumping = 1;  ///< prompts that wait together, over the square root of those in flight
    bool mixes_prefill = true;  ///< prefill and decode tokens share a step
    friend bool operator==(const Engine&, const Engine&) = default;
  };

  std::string gpu;
  std::string device;  ///< as its driver names it; may be empty
  std::vector<ExpertTime> experts;
  double copy_gb_s = 0;    ///< 0: not measured
  double gemm_tflops = 0;  ///< bf16; 0: not measured
  std::vector<Collective> collectives;
  std::vector<std::pair<std::string, double>> router_us;  ///< policy, time of one layer
  std::vector<Engine> engines;

  /// Throws Error{kInput} that names the field, its value and what would be right.
  void validate() const;
};

}  // namespace metro
