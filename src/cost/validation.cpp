// SPDX-License-Identifier: Apache-2.0
#include "cost/validation.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "cost/serving_estimate.hpp"
#include "metro/cost.hpp"
#include "metro/error.hpp"
#include "metro/gpu.hpp"

namespace metro::cost {
namespace {

/// The benchmark draws lengths from 80-100 % of the nominal ones.
constexpr double kMeanLength = 0.9;

/// Random tokens through a trained router: between the sigma of single models' published loads.
constexpr double kPopularitySigma = 0.9;

std::string why_skipped(const ServingPoint& point) {
  if (point.attention == AttentionSharding::kUnknown) return "attn_mode is unknown";
  if (!point.concurrency) return "concurrency is unknown";
  return "";
}

Deployment deployment_of(const ServingPoint& point, const ModelConfig& model) {
  Deployment deployment;
  deployment.gpus = point.gpus;
  deployment.tp = point.attention == AttentionSharding::kTensor ? point.gpus : 1;
  deployment.ep = point.gpus % point.ep == 0 ? point.ep : point.gpus;
  deployment.engine = point.engine;
  // A checkpoint of 4-bit experts is served as it is; "fp8" then names the rest.
  deployment.set_weights(model, model.weights == DataType::kFp4 ? DataType::kFp4 : point.precision);
  deployment.kv = point.precision == DataType::kBf16 ? DataType::kBf16 : DataType::kFp8;
  return deployment;
}

PredictedPoint predict(const ServingPoint& point, std::string_view file,
                       const Calibration* calibration) {
  const auto reject = [&](std::string_view column, std::string_view value,
                          std::string_view wanted) {
    throw Error(ErrorCode::kInput, fmt::format("{}: line {}: {} is '{}', must be {}", file,
                                               point.line, column, value, wanted));
  };
  const ModelConfig* model = find_model(point.model);
  if (model == nullptr) reject("canonical_model", point.model, "a known model");
  const GpuSpec* gpu = find_gpu(point.gpu);
  if (gpu == nullptr) reject("system", point.gpu, "a known GPU");
  const Deployment deployment = deployment_of(point, *model);
  const CostModel cost(*model, *gpu, deployment, calibration);
  const ExpectedExperts experts(*model, deployment, kPopularitySigma);
  const ServingEstimate estimate =
      estimate_serving(cost, experts, *model, deployment,
                       {kMeanLength * point.input_tokens, kMeanLength * point.output_tokens,
                        static_cast<double>(point.concurrency.value_or(1))});
  return {&point, estimate.ttft_ms, estimate.tpot_ms};
}

/// Signed errors of one measurement, the mean over its rows.
struct MeasurementError {
  const ServingPoint* first;
  double tpot = 0;
  double ttft = 0;
  int rows = 0;
};

std::vector<MeasurementError> errors_by_measurement(const std::vector<PredictedPoint>& points) {
  std::vector<MeasurementError> errors;
  std::map<std::string_view, std::size_t> index;
  for (const PredictedPoint& p : points) {
    const auto [at, is_new] = index.try_emplace(p.point->measurement_id, errors.size());
    if (is_new) errors.push_back({p.point});
    MeasurementError& error = errors[at->second];
    error.tpot += 100 * (p.tpot_ms / p.point->tpot_ms - 1);
    error.ttft += 100 * (p.ttft_ms / p.point->ttft_ms - 1);
    ++error.rows;
  }
  for (MeasurementError& error : errors) {
    error.tpot /= error.rows;
    error.ttft /= error.rows;
  }
  return errors;
}

std::vector<PairError> errors_by_pair(const std::vector<MeasurementError>& errors) {
  std::vector<PairError> pairs;
  for (const MeasurementError& error : errors) {
    auto pair = std::ranges::find_if(pairs, [&](const PairError& p) {
      return p.model == error.first->model && p.gpu == error.first->gpu;
    });
    if (pair == pairs.end()) {
      pairs.push_back({error.first->model, error.first->gpu});
      pair = std::prev(pairs.end());
    }
    ++pair->measurements;
    pair->tpot_mape += std::abs(error.tpot);
    pair->ttft_mape += std::abs(error.ttft);
  }
  for (PairError& pair : pairs) {
    pair.tpot_mape /= pair.measurements;
    pair.ttft_mape /= pair.measurements;
  }
  return pairs;
}

double repeat_spread(const std::vector<MeasurementError>& measurements) {
  std::map<std::string_view, std::vector<double>> groups;
  for (const MeasurementError& m : measurements) {
    groups[m.first->group_id].push_back(m.first->tpot_ms);
  }
  std::vector<double> distances;
  for (const auto& [group, values] : groups) {
    if (values.size() < 2) continue;
    for (const double value : values) distances.push_back(100 * (value / mean_of(values) - 1));
  }
  return summarise_errors(distances).mape;
}

}  // namespace

Validation validate_serving(std::span<const ServingPoint> table, std::string_view file,
                            const Calibration* calibration) {
  Validation result;
  for (const ServingPoint& point : table) {
    if (std::string why = why_skipped(point); !why.empty()) {
      result.skipped.push_back({point.id, std::move(why)});
    } else {
      result.points.push_back(predict(point, file, calibration));
    }
  }
  const std::vector<MeasurementError> errors = errors_by_measurement(result.points);
  result.measurements = static_cast<int>(errors.size());
  std::vector<double> tpot;
  std::vector<double> ttft;
  for (const MeasurementError& error : errors) {
    tpot.push_back(error.tpot);
    ttft.push_back(error.ttft);
  }
  result.tpot = summarise_errors(tpot);
  result.ttft = summarise_errors(ttft);
  result.by = errors_by_pair(errors);
  result.repeat_spread = repeat_spread(errors);
  return result;
}

}  // namespace metro::cost
