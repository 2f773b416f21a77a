// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "cost/kernel_table.hpp"
#include "cost/roofline.hpp"
#include "metro/cost.hpp"

/// A step as a list of what runs in it. Each part knows how many layers have it and what it costs
/// by the step's load; a model's shapes are gone once its parts are made.
namespace metro::cost {

/// Which tokens of a step a part works on.
enum class Rows : std::uint8_t {
  kRank,   ///< those of one attention rank
  kLogits  ///< those of one attention rank that need a next token
};

/// y[rows, columns] = x[rows, inner] w[inner, columns], in `count` layers.
struct GemmPart {
  Stage stage;
  Rows rows;
  double count;
  double weight_bytes;
  double row_bytes;
  double row_operations;
  KernelTime time;

  [[nodiscard]] double us(double num_rows) const noexcept {
    if (!(num_rows > 0)) return 0;
    return count * time.us(weight_bytes + row_bytes * num_rows, row_operations * num_rows);
  }
};

/// Softmax attention over a KV cache, in `count` layers that see the same keys.
struct AttentionPart {
  double count;
  double window;       ///< keys that a token sees at most; 0: all
  double index_bytes;  ///< bytes of every key that are read to choose the `window` best; 0: none
  double key_bytes;
  double key_operations;   ///< for one token and key in decode
  double pair_operations;  ///< the same in prefill
  KernelTime decode;
  KernelTime prefill;

  [[nodiscard]] double us(const StepLoad& load) const noexcept;
};

/// Recurrent (linear) attention: a state is read and written for each request.
struct RecurrentPart {
  double count;
  double state_bytes;
  double row_operations;
  KernelTime time;

  [[nodiscard]] double us(const StepLoad& load) const noexcept;
};

struct CollectivePart {
  Stage stage;
  bool global_tokens;  ///< of all attention ranks, else of one
  double count;
  double bytes_per_token;
  AlphaBeta line;

  [[nodiscard]] double us(double num_tokens) const noexcept {
    return count * (line.alpha_us + bytes_per_token * num_tokens / (line.beta_gb_s * 1e3));
  }
};

/// What neither reads weights nor talks to other GPUs.
struct FixedPart {
  Stage stage;
  double step_us;
  double us_per_token;         ///< of one attention rank
  double us_per_global_token;  ///< of all
  double prefill_step_us;      ///< if the step prefills
};

struct StepParts {
  std::vector<GemmPart> gemms;
  std::vector<AttentionPart> attention;
  std::vector<RecurrentPart> recurrent;
  std::vector<CollectivePart> collectives;
  std::vector<FixedPart> fixed;
};

inline double AttentionPart::us(const StepLoad& load) const noexcept {
  double total = 0;
  if (load.decode_rows > 0) {
    const auto rows = static_cast<double>(load.decode_rows);
    const auto context = static_cast<double>(load.decode_context_tokens);
    const double keys = window > 0 ? std::min(context, rows * window) : context;
    // Drafted tokens of a request read its keys together.
    const double requests = load.decode_requests > 0 ? load.decode_requests : rows;
    const double reads = requests / rows;
    total += decode.us((keys * key_bytes + context * index_bytes) * reads, keys * key_operations);
  }
  if (load.prefill_tokens > 0) {
    const auto pairs = static_cast<double>(load.prefill_pairs);
    const double seen =
        window > 0 ? std::min(pairs, static_cast<double>(load.prefill_tokens) * window) : pairs;
    total += prefill.us(0, seen * pair_operations);
  }
  return count * total;
}

inline double RecurrentPart::us(const StepLoad& load) const noexcept {
  const auto rows = static_cast<double>(load.decode_rows + load.prefill_tokens);
  if (!(rows > 0)) return 0;
  const double requests =
      load.decode_requests > 0 ? load.decode_requests : static_cast<double>(load.decode_rows);
  return count * time.us(2 * state_bytes * std::max(requests, 1.0), row_operations * rows);
}

}  // namespace metro::cost
