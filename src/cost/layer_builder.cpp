// SPDX-License-Identifier: Apache-2.0
#include "cost/layer_builder.hpp"

#include <algorithm>
#include <cmath>

namespace metro::cost {
namespace {

/// Softmax or sigmoid, choice of experts and their renormalised weights, one kernel.
constexpr double kTopkUs = 4.3;

}  // namespace

double router_us(const PolicyInfo& policy, const Calibration* calibration) noexcept {
  for (const std::string_view key : {policy.name, policy.calibration_key}) {
    if (calibration == nullptr) break;
    for (const auto& [name, us] : calibration->router_us) {
      if (name == key) return us;
    }
  }
  return policy.route_us;
}

LayerBuilder::LayerBuilder(const ModelConfig& model, const GpuSpec& gpu,
                           const Deployment& deployment, const EngineConstants& engine,
                           const Calibration* calibration)
    : model_(model),
      gpu_(gpu),
      deployment_(deployment),
      engine_(engine),
      architecture_(architecture_of(gpu)),
      network_(gpu, deployment.gpus_per_domain, engine.collective_scale, calibration),
      calibration_(calibration),
      tp_(deployment.tp) {}

StepParts LayerBuilder::build() const {
  StepParts parts;
  add_attention(parts);
  add_feed_forward(parts);
  add_collectives(parts);
  add_exchange(parts);
  add_overhead(parts);
  return parts;
}

void LayerBuilder::add_gemm(StepParts& parts, Stage stage, double count, double columns,
                            double inner, DataType weights, double exposed, Rows rows) const {
  if (!(count > 0 && columns > 0 && inner > 0)) return;
  Roofline roofline = gemm_roofline(architecture_, weights);
  if (calibration_ != nullptr && calibration_->gemm_tflops > 0 && weights == DataType::kBf16) {
    roofline.compute_efficiency = calibration_->gemm_tflops * 1e12 / gpu_.bf16_flops;
  }
  const bool narrows = bytes_per_value(weights) < 2 && gpu_.flops(weights) > gpu_.bf16_flops;
  if (narrows) parts.fixed.push_back({stage, count * exposed * engine_.quantise_us, 0, 0, 0});
  parts.gemms.push_back({
      .stage = stage,
      .rows = rows,
      .count = count * exposed,
      .weight_bytes = columns * inner * bytes_per_value(weights),
      .row_bytes = 2 * (columns + inner),
      .row_operations = 2 * columns * inner,
      .time = kernel(roofline, gpu_.flops(weights)),
  });
}

void LayerBuilder::add_feed_forward(StepParts& parts) const {
  const double moe_layers = model_.num_moe_layers();
  const double dense_layers = model_.num_layers - moe_layers;
  const DataType weights = deployment_.dense_weights;
  const double dense = model_.dense_intermediate / tp_;
  add_gemm(parts, Stage::kDense, dense_layers, 2 * dense, model_.hidden, weights);
  add_gemm(parts, Stage::kDense, dense_layers, model_.hidden, dense, weights);
  const double shared = model_.shared_intermediate / tp_;
  const double exposed = engine_.shared_exposed;
  add_gemm(parts, Stage::kShared, moe_layers, 2 * shared, model_.hidden, weights, exposed);
  add_gemm(parts, Stage::kShared, moe_layers, model_.hidden, shared, weights, exposed);
  add_gemm(parts, Stage::kGate, moe_layers, model_.num_experts, model_.hidden, DataType::kBf16);
  parts.fixed.push_back({Stage::kGate, moe_layers * kTopkUs * engine_.kernel_scale, 0, 0, 0});
  add_gemm(parts, Stage::kHead, 1, model_.vocab_size / tp_, model_.hidden, DataType::kBf16, 1,
           Rows::kLogits);
}

void LayerBuilder::add_collectives(StepParts& parts) const {
  const double moe_layers = model_.num_moe_layers();
  const double hidden_bytes = 2.0 * model_.hidden;
  const AlphaBeta reduce = network_.line(Collective::kAllReduce, deployment_.tp);
  if (deployment_.tp > 1) {
    parts.collectives.push_back(
        {Stage::kAttentionSum, false, 1.0 * model_.num_layers, hidden_bytes, reduce});
    if (model_.wide_qk_norm) {  // sums of squares of queries and keys, float32
      parts.collectives.push_back(
          {Stage::kAttentionSum, false, 1.0 * model_.num_layers, 8, reduce});
    }
    parts.collectives.push_back(
        {Stage::kDense, false, model_.num_layers - moe_layers, hidden_bytes, reduce});
  }
  if (deployment_.gpus == 1) return;
  if (deployment_.attention_ranks() == 1) {  // every GPU has every token already
    parts.collectives.push_back({Stage::kCombine, false, moe_layers, hidden_bytes, reduce});
    return;
  }
  const int gpus = deployment_.gpus;
  const bool narrow = bytes_per_value(deployment_.expert_weights) < 2;
  const double sent_bytes = (narrow ? 1.0 : 2.0) * model_.hidden;
  if (deployment_.dispatch == Dispatch::kAllGather) {
    parts.collectives.push_back({Stage::kDispatch, true, moe_layers, sent_bytes,
                                 network_.line(Collective::kAllGather, gpus)});
    parts.collectives.push_back({Stage::kCombine, true, moe_layers, hidden_bytes,
                                 network_.line(Collective::kReduceScatter, gpus)});
    return;
  }
  // A token goes once to each of its experts; ranks of one TP group share the sending.
  const double copies = model_.topk * deployment_.expert_shards() / tp_;
  parts.collectives.push_back({Stage::kDispatch, false, moe_layers, copies * sent_bytes,
                               network_.line(Collective::kDispatch, gpus)});
  parts.collectives.push_back({Stage::kCombine, false, moe_layers, copies * hidden_bytes,
                               network_.line(Collective::kCombine, gpus)});
}

void LayerBuilder::add_exchange(StepParts& parts) const {
  const bool has_choice =
      !deployment_.tensor_sharded_experts &&
      deployment_.slots_per_gpu * deployment_.expert_gpus() > model_.num_experts;
  if (!has_choice) return;
  const PolicyInfo& policy = require_policy(deployment_.policy);
  const double layers = model_.num_moe_layers();
  parts.fixed.push_back({Stage::kRoute, layers * router_us(policy, calibration_), 0, 0, 0});
  // Where tokens are all-gathered, or every GPU has them, the global batch is there for nothing.
  const bool is_told = deployment_.attention_ranks() > 1 &&
                       deployment_.dispatch == Dispatch::kAllToAll &&
                       policy.needs != PolicyNeeds::kOwnRows;
  if (!is_told) return;
  // Of the ids of a decode batch, too, the latency is what costs: they are charged as a bitmap.
  AlphaBeta line = network_.line(Collective::kAllGather, deployment_.gpus);
  const double bitmap_bytes = model_.num_experts / 8.0 * deployment_.gpus;
  parts.collectives.push_back({Stage::kExchange,
                               false,
                               layers,
                               0,
                               {line.alpha_us + bitmap_bytes / (line.beta_gb_s * 1e3), 1e9}});
}

void LayerBuilder::add_overhead(StepParts& parts) const {
  const double layers = model_.num_layers;
  const double elementwise_us = engine_.row_bytes * model_.hidden / gpu_.memory_bytes_per_s * 1e6;
  parts.fixed.push_back({Stage::kOverhead, layers * engine_.layer_us + engine_.step_us,
                         layers * elementwise_us, 0, layers * engine_.prefill_layer_us});
}

}  // namespace metro::cost
