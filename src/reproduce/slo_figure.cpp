// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "reproduce/figures.hpp"
#include "reproduce/system_values.hpp"

namespace metro::reproduction {
namespace {

constexpr std::int64_t kContext = kDecodeHeavy.prompt + kDecodeHeavy.output / 2;
constexpr double kFirstBatch = 64;  // of the paper's sweep

/// Decode step and throughput by batch size, ascending.
struct Curve {
  std::vector<double> batch;
  std::vector<double> step_us;

  /// Most tokens a second with no step above `slo_us`; 0 where the least batch is too slow already.
  [[nodiscard]] double tokens_per_s(double slo_us) const {
    double most = 0;
    for (std::size_t i = 0; i < batch.size(); ++i) {
      if (step_us[i] > slo_us) {
        if (i == 0) break;
        const double share = (slo_us - step_us[i - 1]) / (step_us[i] - step_us[i - 1]);
        most = std::max(most, (batch[i - 1] + share * (batch[i] - batch[i - 1])) / slo_us * 1e6);
        break;
      }
      most = std::max(most, batch[i] / step_us[i] * 1e6);
    }
    return most;
  }
};

Curve measure(DecodeModel model, double steps_per_octave, std::int64_t last) {
  Curve curve;
  last = std::min(last, model.largest_batch(kContext));
  for (int i = 0;; ++i) {
    const auto batch =
        static_cast<std::int64_t>(std::lround(kFirstBatch * std::exp2(i / steps_per_octave)));
    if (batch > last) return curve;
    curve.batch.push_back(static_cast<double>(batch));
    curve.step_us.push_back(model.at(batch, kContext).total_us());
  }
}

}  // namespace

ReproducedFigure make_slo_figure(Runner& runner) {
  constexpr std::int64_t kLastBatch = 8192;
  const double replication = runner.most_replication();
  const double per_octave = runner.quick() ? 2 : 4;
  ReproducedFigure figure{"12", "Decode throughput at equal TPOT", "", {}, {}, {}};
  figure.note = fmt::format(
      "Decode steps of {} to {} requests, as far as memory goes, contexts of {} tokens, {}. An SLO "
      "of 1 is METRO's TPOT at {} requests; lower ones allow more. Throughput is that of the "
      "largest "
      "batch that keeps it.",
      kFirstBatch, kLastBatch, kContext, times_text(replication), kFirstBatch);
  for (const Pair& pair : pairs().subspan(1)) {
    std::vector<Curve> curves(systems().size());
    runner.for_each(curves.size(), [&](std::size_t s) {
      curves[s] = measure(runner.decode(pair, systems()[s], replication), per_octave, kLastBatch);
    });
    const auto at = [&](double slo) {
      const double slo_us = curves[1].step_us.front() / slo;  // of METRO
      std::vector<double> values;
      for (const Curve& curve : curves) values.push_back(curve.tokens_per_s(slo_us));
      return SystemValues(std::move(values));
    };
    const auto ratio_row = [&](double slo, const char* quantity, const char* paper) {
      const SystemValues values = at(slo);
      ReproducedRow row{fmt::format("{}, SLO {:.2f}", pair_name(pair), slo),
                        quantity,
                        "x",
                        paper,
                        values.of(kMetro) / values.of(kEplb),
                        {}};
      for (const System& rival : systems()) {
        if (rival.key == kMetro.key || rival.key == kEplb.key) continue;
        row.beside.emplace_back(rival.key, values.of(rival) / values.of(kEplb));
      }
      return row;
    };
    Plot plot{pair_name(pair),           "lines", "SLO: 1/TPOT, METRO at 64 requests = 1",
              "output tokens/s per GPU", {},      {}};
    for (const System& system : systems()) {
      plot.series.push_back({std::string(system.name), {}, {}});
    }
    double best_slo = 0.7;
    double best_ratio = 0;
    for (int i = 0; i <= 14; ++i) {
      const double slo = 0.3 + 0.05 * i;
      const SystemValues values = at(slo);
      for (std::size_t s = 0; s < systems().size(); ++s) {
        if (values.of(systems()[s]) == 0) continue;  // cannot keep it
        plot.series[s].x.push_back(slo);
        plot.series[s].y.push_back(values.of(systems()[s]) / pair.gpus);
      }
      if (values.of(kEplb) == 0) continue;
      const double ratio = values.of(kMetro) / values.of(kEplb);
      if (ratio > best_ratio) {
        best_ratio = ratio;
        best_slo = slo;
      }
    }
    figure.plots.push_back(std::move(plot));
    figure.rows.push_back(ratio_row(0.7, "decode throughput, METRO over EPLB", "1.98 to 4.11"));
    figure.rows.push_back(
        ratio_row(best_slo, "decode throughput, METRO over EPLB, at most", "4.11"));
  }
  return figure;
}

}  // namespace metro::reproduction
