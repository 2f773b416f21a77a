// SPDX-License-Identifier: Apache-2.0
#include "cost/serving_estimate.hpp"

#include <algorithm>
#include <cmath>

namespace metro::cost {
namespace {

constexpr double kChunkTokens = 8192;
constexpr double kMaxPrefillShare = 0.95;

/// Times of one attention rank, of which all do the same at the same time.
class RankTimes {
 public:
  RankTimes(const CostModel& cost, const ExpectedExperts& experts, const ModelConfig& model,
            double ranks)
      : cost_(cost), experts_(experts), moe_layers_(model.num_moe_layers()), ranks_(ranks) {}

  /// A step that decodes `rows` tokens with `context` tokens each and prefills `tokens` behind
  /// `before` of the same prompt.
  [[nodiscard]] double step_us(double rows, double context, double tokens, double before) const {
    StepLoad load;
    load.decode_rows = std::llround(rows);
    load.decode_context_tokens = std::llround(rows * context);
    load.prefill_tokens = std::llround(tokens);
    load.prefill_pairs = std::llround(tokens * (before + tokens / 2));
    load.logits_rows = load.decode_rows + (tokens > 0 ? 1 : 0);
    load.global_tokens = std::llround((rows + tokens) * ranks_);
    return cost_.step(load).total_us() +
           moe_layers_ * experts_.layer_us(cost_, static_cast<double>(load.global_tokens));
  }

  /// What a prompt adds, chunk by chunk, to steps that decode `rows` tokens.
  [[nodiscard]] double prefill_us(double prompt, double rows, double context) const {
    const bool mixes = cost_.engine().mixes_prefill;
    const double decode = mixes ? step_us(rows, context, 0, 0) : 0;
    double sum = 0;
    const auto chunks = static_cast<int>(std::ceil(prompt / kChunkTokens));
    for (int chunk = 0; chunk < chunks; ++chunk) {
      const double before = chunk * kChunkTokens;
      const double tokens = std::min(kChunkTokens, prompt - before);
      sum += step_us(mixes ? rows : 0, context, tokens, before) - decode;
    }
    return sum;
  }

 private:
  const CostModel& cost_;
  const ExpectedExperts& experts_;
  double moe_layers_;
  double ranks_;
};

}  // namespace

ServingEstimate estimate_serving(const CostModel& cost, const ExpectedExperts& experts,
                                 const ModelConfig& model, const Deployment& deployment,
                                 const ClosedLoop& load) {
  const double ranks = deployment.attention_ranks();
  const RankTimes times(cost, experts, model, ranks);
  // Requests beyond what the KV cache holds wait for their turn.
  const MemoryUse memory = cost.memory();
  const double request_tokens = load.input_tokens + load.output_tokens / 2 +
                                memory.kv_bytes_per_request / memory.kv_bytes_per_token;
  const double held = static_cast<double>(memory.kv_capacity_tokens) / request_tokens;
  const double wanted = load.concurrency / ranks;
  const double rows = std::max(1.0, held > 1 ? std::min(wanted, held) : wanted);

  const double context = load.input_tokens + load.output_tokens / 2;
  const double decode = times.step_us(rows, context, 0, 0);
  const double prefill = times.prefill_us(load.input_tokens, rows, context);
  // A request's own prefill delays the other requests of its rank.
  const double others = 1 - 1 / rows;
  double tpot = decode;
  for (int i = 0; i < 60; ++i) {
    const double request = prefill + decode + load.output_tokens * tpot;
    const double share = std::min(kMaxPrefillShare, rows / request * prefill * others);
    tpot = (tpot + decode / (1 - share)) / 2;
  }
  const double request = prefill + decode + load.output_tokens * tpot;
  const double memory_queue = std::max(0.0, wanted - rows) * request / rows;
  // A closed loop starts with all prompts at once, and those stay in clumps for a while.
  const double clump = 1 + cost.engine().clumping * (std::sqrt(load.concurrency) - 1);
  constexpr double kMs = 1e-3;
  return {
      .ttft_ms = (cost.engine().first_token_us + prefill * clump + decode + memory_queue) * kMs,
      .tpot_ms = tpot * kMs,
      .decode_step_ms = decode * kMs,
      .prefill_ms = prefill * kMs,
  };
}

}  // namespace metro::cost
