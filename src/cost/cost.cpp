// SPDX-License-Identifier: Apache-2.0
#include "metro/cost.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "cost/engine.hpp"
#include "cost/expert_time.hpp"
#include "cost/layer_builder.hpp"
#include "cost/memory.hpp"
#include "cost/network.hpp"
#include "io/sha256.hpp"
#include "metro/error.hpp"
#include "metro/placement.hpp"

namespace metro {
namespace {

void check(bool holds, const char* field, int value, const std::string& wanted) {
  if (!holds) {
    throw Error(ErrorCode::kUsage, fmt::format("{} is {}, must be {}", field, value, wanted));
  }
}

}  // namespace

double StepTimes::total_us() const noexcept { return std::accumulate(us.begin(), us.end(), 0.0); }

void Deployment::set_weights(const ModelConfig& model, DataType weights) noexcept {
  expert_weights = weights;
  // 4-bit checkpoints keep attention and shared experts wide; fp8 ones narrow them too.
  dense_weights = weights == model.weights    ? model.dense_weights
                  : weights == DataType::kFp4 ? DataType::kBf16
                                              : weights;
}

void Deployment::validate(const ModelConfig& model) const {
  check(gpus >= 1 && gpus <= kMaxGpus, "gpus", gpus, fmt::format("1..{}", kMaxGpus));
  check(tp >= 1 && gpus % tp == 0, "tp", tp, fmt::format("a divisor of gpus ({})", gpus));
  check(model.num_heads % tp == 0, "tp", tp,
        fmt::format("a divisor of the model's {} attention heads", model.num_heads));
  check(ep >= 0 && gpus % expert_gpus() == 0, "ep", ep,
        fmt::format("a divisor of gpus ({})", gpus));
  check(gpus_per_domain >= 0, "gpus_per_domain", gpus_per_domain, "0 or more");
  const std::int64_t slots = std::int64_t{slots_per_gpu} * expert_gpus();
  check(slots_per_gpu >= 0 && slots <= kMaxReplicas &&
            (slots_per_gpu == 0 || slots >= model.num_experts),
        "slots_per_gpu", slots_per_gpu,
        fmt::format("0, or enough that {} GPUs hold {} experts", expert_gpus(), model.num_experts));
  require_policy(policy);
  if (model.expert_intermediate % expert_shards() != 0) {
    throw Error(ErrorCode::kInfeasible,
                fmt::format("{} GPUs cannot share an expert of {} columns equally, must be a "
                            "divisor (gpus {}, ep {})",
                            expert_shards(), model.expert_intermediate, gpus,
                            tensor_sharded_experts ? 1 : expert_gpus()));
  }
}

struct CostModel::Parts {
  Parts(const ModelConfig& model, const GpuSpec& gpu, const Deployment& deployment,
        const Calibration* calibration)
      : engine(cost::engine_constants(deployment.engine, calibration)),
        step(cost::LayerBuilder(model, gpu, deployment, engine, calibration).build()),
        experts(gpu, deployment.engine, engine.kernel_scale, model.hidden,
                shard(model, deployment.expert_shards()), deployment.expert_weights, calibration),
        sharded(deployment.expert_shards() == deployment.gpus
                    ? experts
                    : cost::ExpertTime(gpu, deployment.engine, engine.kernel_scale, model.hidden,
                                       shard(model, deployment.gpus), deployment.expert_weights,
                                       calibration)),
        memory(cost::memory_use(model, gpu, deployment)),
        link(cost::Network(gpu, deployment.gpus_per_domain, engine.collective_scale, calibration)
                 .line(Collective::kAllToAll, deployment.gpus)),
        copy_gb_s(calibration != nullptr ? calibration->copy_gb_s : 0) {
    step.fixed.push_back(
        {Stage::kPermute, 0, 0, model.num_moe_layers() * experts.permute_us_per_token(), 0});
  }

  /// Columns of an expert that one of `shards` GPUs holds.
  static int shard(const ModelConfig& model, int shards) {
    return std::max(1, (model.expert_intermediate + shards - 1) / shards);
  }

  cost::EngineConstants engine;
  cost::StepParts step;
  cost::ExpertTime experts;
  cost::ExpertTime sharded;
  MemoryUse memory;
  AlphaBeta link;
  double copy_gb_s;
};

CostModel::CostModel(const ModelConfig& model, const GpuSpec& gpu, const Deployment& deployment,
                     const Calibration* calibration) {
  model.validate();
  deployment.validate(model);
  if (calibration != nullptr) calibration->validate();
  parts_ = std::make_unique<const Parts>(model, gpu, deployment, calibration);
}

CostModel::CostModel(const CostModel& other)
    : parts_(std::make_unique<const Parts>(*other.parts_)) {}
CostModel::CostModel(CostModel&&) noexcept = default;
CostModel::~CostModel() = default;

StepTimes CostModel::step(const StepLoad& load) const noexcept {
  StepTimes times;
  const auto add = [&](Stage stage, double us) { times.us[static_cast<std::size_t>(stage)] += us; };
  const auto rows = static_cast<double>(load.decode_rows + load.prefill_tokens);
  const auto logits = static_cast<double>(load.logits_rows);
  const auto global = static_cast<double>(load.global_tokens);
  const cost::StepParts& parts = parts_->step;
  for (const auto& part : parts.gemms) {
    add(part.stage, part.us(part.rows == cost::Rows::kLogits ? logits : rows));
  }
  for (const auto& part : parts.attention) add(Stage::kAttention, part.us(load));
  for (const auto& part : parts.recurrent) add(Stage::kAttention, part.us(load));
  for (const auto& part : parts.collectives) {
    add(part.stage, part.us(part.global_tokens ? global : rows));
  }
  for (const auto& part : parts.fixed) {
    add(part.stage, part.step_us + part.us_per_token * rows + part.us_per_global_token * global +
                        (load.prefill_tokens > 0 ? part.prefill_step_us : 0));
  }
  return times;
}

double CostModel::expert_us(std::span<const std::int32_t> tokens_per_replica) const noexcept {
  double us = 0;
  for (const std::int32_t tokens : tokens_per_replica)
    us += parts_->experts.phi_us(std::int64_t{tokens});
  return us > 0 ? us + parts_->experts.base_us() : 0;
}

double CostModel::phi_us(std::int64_t tokens) const noexcept {
  return parts_->experts.phi_us(tokens);
}

double CostModel::expected_phi_us(double tokens) const noexcept {
  return parts_->experts.phi_us(tokens);
}

double CostModel::expert_base_us() const noexcept { return parts_->experts.base_us(); }

double CostModel::tensor_sharded_us(
    std::span<const std::int32_t> tokens_per_expert) const noexcept {
  double us = 0;
  for (const std::int32_t tokens : tokens_per_expert)
    us += parts_->sharded.phi_us(std::int64_t{tokens});
  return us > 0 ? us + parts_->sharded.base_us() : 0;
}

std::string CostModel::expert_time_identity() const {
  io::Sha256 digest;
  parts_->experts.add_to(digest);
  parts_->sharded.add_to(digest);
  return digest.finish();
}

MemoryUse CostModel::memory() const noexcept { return parts_->memory; }

const Calibration::Engine& CostModel::engine() const noexcept { return parts_->engine; }

double CostModel::rearrange_us(double bytes_per_gpu) const noexcept {
  if (!(bytes_per_gpu > 0)) return 0;
  // Weights come over the links and are written once more where they stay.
  const double copy_us = parts_->copy_gb_s > 0 ? bytes_per_gpu / (parts_->copy_gb_s * 1e3) : 0;
  return parts_->link.alpha_us + bytes_per_gpu / (parts_->link.beta_gb_s * 1e3) + copy_us;
}

}  // namespace metro
