// SPDX-License-Identifier: Apache-2.0
#include "metro/trace_stats.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "core/rng.hpp"
#include "metro/batches.hpp"
#include "trace/layer_stats.hpp"
#include "trace/overlap.hpp"

namespace metro {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();
constexpr int kLags[] = {1, 2, 4, 8, 16, 32};
constexpr std::int64_t kLargestBatch = 4096;
constexpr int kMaxBatches = 64;
constexpr std::int64_t kTokensPerBatchSize = 16384;          // over all batches of a size
constexpr std::size_t kPairs = 4096;                         // per kind of pair
constexpr std::int64_t kLiftBudget = std::int64_t{1} << 25;  // (token, layer, pair) steps
constexpr int kLiftMaxExperts = 2048;
constexpr double kLiftMinExpected = 10;

/// One layer of a trace, widened and contiguous: everything below reads it several times.
class LayerIds {
 public:
  explicit LayerIds(const RoutingTrace& trace)
      : trace_(trace),
        topk_(static_cast<std::size_t>(trace.topk())),
        ids_(static_cast<std::size_t>(trace.num_tokens()) * topk_) {}

  void load(int layer) {
    std::size_t at = 0;
    for (std::int64_t token = 0; token < trace_.num_tokens(); ++token) {
      for (int k = 0; k < trace_.topk(); ++k) ids_[at++] = trace_.id(token, layer, k);
    }
  }

  [[nodiscard]] std::span<const std::int32_t> all() const { return ids_; }

  [[nodiscard]] std::span<const std::int32_t> token(std::int64_t row) const {
    return std::span<const std::int32_t>(ids_).subspan(static_cast<std::size_t>(row) * topk_,
                                                       topk_);
  }

 private:
  const RoutingTrace& trace_;
  std::size_t topk_;
  std::vector<std::int32_t> ids_;
};

/// The batches of each size, drawn once and used in every layer, and what they activated so far.
class ActivatedCounter {
 public:
  ActivatedCounter(const RoutingTrace& trace, const std::vector<std::int64_t>& sizes,
                   std::uint64_t seed)
      : num_experts_(trace.num_experts()),
        num_layers_(trace.num_layers()),
        last_batch_(static_cast<std::size_t>(trace.num_experts()), 0) {
    DecodeBatches draws(trace, 0, trace.num_tokens());
    for (const std::int64_t size : sizes) {
      if (size < 1 || size > trace.num_tokens()) continue;
      Size& entry = sizes_.emplace_back();
      entry.tokens = size;
      const std::int64_t batches =
          std::clamp<std::int64_t>(kTokensPerBatchSize / size, 4, kMaxBatches);
      for (std::int64_t i = 0; i < batches; ++i) {
        const auto rows = draws.draw(size, seed, static_cast<std::uint64_t>(i));
        entry.batches.emplace_back(rows.begin(), rows.end());
      }
    }
  }

  void count(const LayerIds& layer) {
    for (Size& size : sizes_) {
      for (const auto& batch : size.batches) size.activated += count_distinct(layer, batch);
    }
  }

  [[nodiscard]] std::vector<ActivatedFraction> fractions() const {
    std::vector<ActivatedFraction> out;
    for (const Size& size : sizes_) {
      const auto batches = static_cast<int>(size.batches.size());
      const double slots = static_cast<double>(batches) * num_layers_ * num_experts_;
      out.push_back({size.tokens, batches, static_cast<double>(size.activated) / slots});
    }
    return out;
  }

 private:
  struct Size {
    std::int64_t tokens = 0;
    std::vector<std::vector<std::int64_t>> batches;
    std::int64_t activated = 0;
  };

  int count_distinct(const LayerIds& layer, std::span<const std::int64_t> batch) {
    ++stamp_;
    int distinct = 0;
    for (const std::int64_t row : batch) {
      for (const std::int32_t id : layer.token(row)) {
        if (id < 0) continue;
        auto& last = last_batch_[static_cast<std::size_t>(id)];
        distinct += last != stamp_ ? 1 : 0;
        last = stamp_;
      }
    }
    return distinct;
  }

  int num_experts_;
  int num_layers_;
  std::vector<Size> sizes_;
  std::vector<std::uint64_t> last_batch_;
  std::uint64_t stamp_ = 0;
};

/// Pairs of one kind, drawn once and used in every layer, and what they shared so far.
struct PairKind {
  std::vector<TokenPair> pairs;
  std::int64_t shared = 0;

  void count(const LayerIds& layer, OverlapCounter& counter) {
    for (const auto& [a, b] : pairs) shared += counter.shared(layer.token(a), layer.token(b));
  }

  [[nodiscard]] double mean(int num_layers) const {
    if (pairs.empty()) return kNan;
    return static_cast<double>(shared) / (static_cast<double>(pairs.size()) * num_layers);
  }
};

/// Co-activation costs topk^2 a token, so a layer's first tokens to fit the budget stand for it;
/// sequences are independent, and a budget that bites leaves thousands of tokens.
double lift_of_layer(const RoutingTrace& trace, const LayerIds& layer) {
  const std::int64_t topk = trace.topk();
  const std::int64_t tokens =
      std::min(trace.num_tokens(), kLiftBudget / (topk * topk * trace.num_layers()));
  if (tokens == 0 || trace.num_experts() > kLiftMaxExperts) return kNan;
  return coactivation_lift_p99(layer.all().first(static_cast<std::size_t>(tokens * topk)),
                               trace.topk(), trace.num_experts(), kLiftMinExpected);
}

}  // namespace

Spread spread(std::vector<double> values) {
  std::erase_if(values, [](double value) { return std::isnan(value); });
  if (values.empty()) return {kNan, kNan, kNan};
  std::ranges::sort(values);
  const std::size_t half = values.size() / 2;
  const double median =
      values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
  return {values.front(), median, values.back()};
}

TraceStats measure_trace(const RoutingTrace& trace, std::uint64_t seed) {
  std::vector<std::int64_t> sizes;
  for (std::int64_t size = 1; size <= kLargestBatch; size *= 2) sizes.push_back(size);
  ActivatedCounter activated(trace, sizes, seed);

  PairSampler sampler(trace.info().sequence_lengths, mix64(seed));
  PairKind different{sampler.different_sequence(kPairs)};
  PairKind same{sampler.same_sequence(kPairs)};
  std::vector<PairKind> lagged;
  for (const int lag : kLags) lagged.push_back({sampler.at_lag(kPairs, lag)});

  TraceStats stats;
  const auto hottest = static_cast<std::size_t>(std::max(1, trace.num_experts() / 8));
  OverlapCounter overlap(trace.num_experts());
  std::vector<double> load(static_cast<std::size_t>(trace.num_experts()));
  LayerIds ids(trace);
  for (int layer = 0; layer < trace.num_layers(); ++layer) {
    ids.load(layer);
    std::ranges::fill(load, 0.0);
    for (const std::int32_t id : ids.all()) {
      if (id >= 0) load[static_cast<std::size_t>(id)] += 1;
    }
    stats.max_over_mean.push_back(max_over_mean(load));
    stats.gini.push_back(gini(load));
    stats.hottest_share.push_back(hottest_share(load, hottest));
    stats.coactivation_lift_p99.push_back(lift_of_layer(trace, ids));
    activated.count(ids);
    different.count(ids, overlap);
    same.count(ids, overlap);
    for (PairKind& kind : lagged) kind.count(ids, overlap);
  }

  stats.activated = activated.fractions();
  stats.shared_different_sequence = different.mean(trace.num_layers());
  stats.shared_same_sequence = same.mean(trace.num_layers());
  for (std::size_t i = 0; i < lagged.size(); ++i) {
    stats.shared_at_lag.push_back({kLags[i], lagged[i].mean(trace.num_layers())});
  }
  return stats;
}

std::vector<ActivatedFraction> measure_activated(const RoutingTrace& trace,
                                                 const std::vector<std::int64_t>& batch_sizes,
                                                 std::uint64_t seed) {
  ActivatedCounter activated(trace, batch_sizes, seed);
  LayerIds ids(trace);
  for (int layer = 0; layer < trace.num_layers(); ++layer) {
    ids.load(layer);
    activated.count(ids);
  }
  return activated.fractions();
}

}  // namespace metro
