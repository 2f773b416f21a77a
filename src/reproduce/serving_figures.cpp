// SPDX-License-Identifier: Apache-2.0
// Figures 9 and 10, and the bands that the paper draws from both.
#include <fmt/format.h>

#include <algorithm>
#include <span>
#include <string_view>

#include "reproduce/figures.hpp"
#include "reproduce/system_values.hpp"

namespace metro::reproduction {
namespace {

constexpr std::int64_t kContext = kDecodeHeavy.prompt + kDecodeHeavy.output / 2;

/// What serving one workload at one replication gave, by system.
struct Served {
  const Pair* pair;
  Workload workload;
  double replication;
  std::vector<double> tpot_ms;
  std::vector<double> tokens_per_s;
};

/// Decode steps at one replication, by system.
struct Decoded {
  const Pair* pair;
  double replication;
  std::vector<double> step_us;
  std::vector<double> full_tokens_per_s;  ///< with the KV cache full
};

std::vector<Served> serve_all(Runner& runner, std::span<const Pair> of) {
  std::vector<Served> all;
  for (const Pair& pair : of) {
    for (const Workload& workload : {kDecodeHeavy, kPrefillHeavy}) {
      for (const double replication : runner.replications()) {
        const std::vector<double> empty(systems().size());
        all.push_back({&pair, workload, replication, empty, empty});
      }
    }
  }
  runner.for_each(all.size() * systems().size(), [&](std::size_t i) {
    Served& served = all[i / systems().size()];
    const std::size_t s = i % systems().size();
    const auto result = runner.serve(*served.pair, systems()[s], served.replication,
                                     served.workload, served.pair->batch);
    served.tpot_ms[s] = result->tpot_ms.mean;
    served.tokens_per_s[s] = result->total_tokens_per_s;
  });
  return all;
}

std::vector<Decoded> decode_all(Runner& runner, std::span<const Pair> of) {
  std::vector<Decoded> all;
  for (const Pair& pair : of) {
    for (const double replication : runner.replications()) {
      const std::vector<double> empty(systems().size());
      all.push_back({&pair, replication, empty, empty});
    }
  }
  runner.for_each(all.size() * systems().size(), [&](std::size_t i) {
    Decoded& decoded = all[i / systems().size()];
    const std::size_t s = i % systems().size();
    DecodeModel model = runner.decode(*decoded.pair, systems()[s], decoded.replication);
    decoded.step_us[s] = model.at(decoded.pair->batch, kContext).total_us();
    const std::int64_t full = model.largest_batch(kContext);
    decoded.full_tokens_per_s[s] =
        static_cast<double>(full) / model.at(full, kContext).total_us() * 1e6;
  });
  return all;
}

/// The row with the least value, or the most.
ReproducedRow best(std::vector<ReproducedRow> rows, bool want_most) {
  return want_most ? *std::ranges::max_element(rows, {}, &ReproducedRow::ours)
                   : *std::ranges::min_element(rows, {}, &ReproducedRow::ours);
}

struct PaperText {
  const char* tpot;
  const char* decode_heavy;   ///< throughput
  const char* prefill_heavy;  ///< throughput
};

ReproducedFigure make_serving_figure(Runner& runner, ReproducedFigure figure,
                                     std::span<const Pair> of, const PaperText& paper) {
  figure.note = fmt::format(
      "METRO against EPLB's even split on the same placement, served with mixed steps (decode {} "
      "in, "
      "{} out on average; prefill {} in, {} out), the batch always full; best of the replications. "
      "Decode steps have no prompts in them; \"equal memory\" gives each system the batch that "
      "its "
      "own memory holds, so EPLB off uses what replicas would take.",
      kDecodeHeavy.prompt, kDecodeHeavy.output, kPrefillHeavy.prompt, kPrefillHeavy.output);
  const std::vector<Served> all = serve_all(runner, of);
  const std::vector<Decoded> steps = decode_all(runner, of);
  for (const Pair& pair : of) {
    std::vector<std::string> categories;
    for (const double replication : runner.replications()) {
      categories.push_back(times_text(replication));
    }
    for (const Workload& workload : {kDecodeHeavy, kPrefillHeavy}) {
      std::vector<SystemValues> tpot;
      std::vector<SystemValues> throughput;
      std::vector<ReproducedRow> tpot_rows;
      std::vector<ReproducedRow> throughput_rows;
      for (const Served& served : all) {
        if (served.pair != &pair || served.workload.name != workload.name) continue;
        tpot.emplace_back(served.tpot_ms);
        throughput.emplace_back(served.tokens_per_s);
        const std::string where = fmt::format("{}, {}, {}", pair_name(pair), workload.name,
                                              times_text(served.replication));
        tpot_rows.push_back(change_row(where, "TPOT served, METRO over EPLB", paper.tpot,
                                       tpot.back(), kMetro, kEplb));
        throughput_rows.push_back(change_row(
            where, "throughput served, METRO over EPLB",
            workload.name == kDecodeHeavy.name ? paper.decode_heavy : paper.prefill_heavy,
            throughput.back(), kMetro, kEplb));
      }
      figure.rows.push_back(best(std::move(tpot_rows), false));
      figure.rows.push_back(best(std::move(throughput_rows), true));
      const std::string title = fmt::format("{}, {}", pair_name(pair), workload.name);
      figure.plots.push_back(
          change_plot(title + ": TPOT over EPLB", "change, %", categories, tpot, kEplb));
      figure.plots.push_back(change_plot(title + ": throughput over EPLB", "change, %", categories,
                                         throughput, kEplb));
    }
    std::vector<ReproducedRow> step_rows;
    std::vector<ReproducedRow> full_rows;
    for (const Decoded& decoded : steps) {
      if (decoded.pair != &pair) continue;
      const std::string where =
          fmt::format("{}, {}", pair_name(pair), times_text(decoded.replication));
      step_rows.push_back(
          change_row(where, fmt::format("decode step at batch {}, METRO over EPLB", pair.batch),
                     paper.tpot, SystemValues(decoded.step_us), kMetro, kEplb));
      full_rows.push_back(change_row(where, "decode throughput at equal memory, METRO over EPLB",
                                     "", SystemValues(decoded.full_tokens_per_s), kMetro, kEplb));
    }
    figure.rows.push_back(best(std::move(step_rows), false));
    figure.rows.push_back(best(std::move(full_rows), true));
  }
  return figure;
}

/// From the least to the most of a change, as two rows.
void add_band(ReproducedFigure& figure, const std::string& where, const std::string& quantity,
              const char* least, const char* most, std::vector<ReproducedRow> rows, bool down) {
  ReproducedRow weakest = best(rows, down);
  ReproducedRow strongest = best(std::move(rows), !down);
  weakest.quantity = quantity + ", weakest";
  strongest.quantity = quantity + ", strongest";
  weakest.paper = least;
  strongest.paper = most;
  for (ReproducedRow* row : {&weakest, &strongest}) row->where = where + ": " + row->where;
  figure.rows.push_back(std::move(weakest));
  figure.rows.push_back(std::move(strongest));
}

/// In how many per cent of the points of one replication `holds` does; 0: of any.
template <typename Holds>
ReproducedRow share_row(const std::vector<Decoded>& steps, double replication, std::string quantity,
                        const Holds& holds) {
  int count = 0;
  int points = 0;
  for (const Decoded& decoded : steps) {
    if (replication > 0 && decoded.replication != replication) continue;
    ++points;
    count += holds(SystemValues(decoded.step_us)) ? 1 : 0;
  }
  return {replication > 0
              ? fmt::format("{} of {} pairs at {}", count, points, times_text(replication))
              : fmt::format("{} of {} pairs and replications", count, points),
          "decode step: " + std::move(quantity),
          "% of points",
          "100",
          100.0 * count / points,
          {}};
}

}  // namespace

ReproducedFigure make_real_system_figure(Runner& runner) {
  return make_serving_figure(runner, {"9", "Serving on the paper's real system", "", {}, {}, {}},
                             pairs().first(1), {"up to -12.9", "up to +15.9", ""});
}

ReproducedFigure make_simulated_figure(Runner& runner) {
  return make_serving_figure(runner, {"10", "Serving, simulated by the paper", "", {}, {}, {}},
                             pairs().subspan(1), {"up to -21.8", "up to +21.0", "up to +4.2"});
}

ReproducedFigure make_overall(Runner& runner) {
  ReproducedFigure figure{"all", "What the paper claims over all of it", "", {}, {}, {}};
  figure.note =
      "Over the pairs, workloads and replications of figures 9 and 10. Order: of decode steps at "
      "the "
      "paper's batch.";
  std::vector<ReproducedRow> tpot;
  std::vector<ReproducedRow> throughput;
  for (const Served& served : serve_all(runner, pairs())) {
    const std::string where = fmt::format("{}, {}, {}", pair_name(*served.pair),
                                          served.workload.name, times_text(served.replication));
    tpot.push_back(change_row(where, "", "", SystemValues(served.tpot_ms), kMetro, kEplb));
    throughput.push_back(
        change_row(where, "", "", SystemValues(served.tokens_per_s), kMetro, kEplb));
  }
  std::vector<ReproducedRow> steps;
  std::vector<ReproducedRow> over_none;
  std::vector<ReproducedRow> ours_over_none;
  const std::vector<Decoded> decoded = decode_all(runner, pairs());
  for (const Decoded& at : decoded) {
    const std::string where =
        fmt::format("{}, {}", pair_name(*at.pair), times_text(at.replication));
    const SystemValues values(at.step_us);
    steps.push_back(change_row(where, "", "", values, kMetro, kEplb));
    over_none.push_back(change_row(where, "", "", values, kMetro, kNone));
    ours_over_none.push_back(change_row(where, "", "", values, kHomed, kNone));
  }
  add_band(figure, "served", "TPOT, METRO over EPLB", "-1.9", "-21.8", std::move(tpot), true);
  add_band(figure, "served", "throughput, METRO over EPLB", "+0.7", "+21.0", std::move(throughput),
           false);
  add_band(figure, "decode step", "TPOT, METRO over EPLB", "-1.9", "-21.8", std::move(steps), true);
  add_band(figure, "decode step", "TPOT, METRO over EPLB off", "", "-5.0 (1.5x), -4.3 (1.125x)",
           std::move(over_none), true);
  const auto add_share = [&](double replication, const char* quantity, const auto& holds) {
    figure.rows.push_back(share_row(decoded, replication, quantity, holds));
  };
  add_share(0, "EPLB's even split above EPLB off",
            [](const SystemValues& v) { return v.of(kEplb) > v.of(kNone); });
  add_share(0, "optimal at most METRO",
            [](const SystemValues& v) { return v.of(kOptimal) <= v.of(kMetro); });
  for (const double replication : runner.replications()) {
    add_share(replication, "METRO below EPLB's even split",
              [](const SystemValues& v) { return v.of(kMetro) < v.of(kEplb); });
  }
  // Ours in METRO's place, over what costs nothing.
  add_band(figure, "decode step", "TPOT, homed + optimal over EPLB off", "", "",
           std::move(ours_over_none), true);
  return figure;
}

}  // namespace metro::reproduction
