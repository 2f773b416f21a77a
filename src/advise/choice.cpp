// SPDX-License-Identifier: Apache-2.0
#include "advise/choice.hpp"

#include <algorithm>
#include <limits>
#include <utility>

#include "metro/error.hpp"

namespace metro {
namespace {

bool keeps_up(const AdviceRow& row, const AdviceRow& off, double margin) {
  // Where EPLB off cannot be built there is no throughput to keep up with.
  return !off.error.empty() ||
         row.result.output_tokens_per_s >= (1 - margin) * off.result.output_tokens_per_s;
}

/// The least change first; among equals, the better one.
auto effort(const AdviceRow& row) {
  const AdviceCandidate& candidate = row.candidate;
  return std::pair(candidate.replication,
                   candidate.tensor_sharded ? std::numeric_limits<int>::max() : candidate.shards);
}

}  // namespace

double gain(const AdviceRow& row, const AdviceRow& than, bool by_goodput) noexcept {
  if (!by_goodput && than.result.tpot_ms.mean == 0) return 0;  // answers of one token
  if (!by_goodput) return 1 - row.result.tpot_ms.mean / than.result.tpot_ms.mean;
  const double base = than.result.goodput_requests_per_s;
  const double goodput = row.result.goodput_requests_per_s;
  if (base > 0) return goodput / base - 1;
  return goodput > 0 ? 1 : 0;
}

std::size_t least_change(const Advice& advice, std::span<const std::size_t> among, double margin) {
  const auto better = [&](std::size_t a, std::size_t b) {
    return gain(advice.rows[a], advice.rows[b], advice.by_goodput) > 0;
  };
  const std::size_t best = *std::ranges::min_element(among, better);
  std::size_t chosen = best;
  for (const std::size_t i : among) {
    if (gain(advice.rows[best], advice.rows[i], advice.by_goodput) > margin) continue;
    const auto i_effort = effort(advice.rows[i]);
    const auto chosen_effort = effort(advice.rows[chosen]);
    if (i_effort < chosen_effort || (i_effort == chosen_effort && better(i, chosen))) {
      chosen = i;
    }
  }
  return chosen;
}

void choose(Advice& advice, bool has_slo, double margin) {
  const AdviceRow& off = advice.rows[advice.off];
  std::int64_t most_completed = 0;
  double most_goodput = 0;
  for (const AdviceRow& row : advice.rows) {
    if (!row.error.empty() || row.splits_scale_blocks) continue;
    most_completed = std::max(most_completed, row.result.completed);
    most_goodput = std::max(most_goodput, row.result.goodput_requests_per_s);
  }
  advice.by_goodput = has_slo && most_goodput > 0;

  std::vector<std::size_t> eligible;
  for (std::size_t i = 0; i < advice.rows.size(); ++i) {
    AdviceRow& row = advice.rows[i];
    // Goodput already says what throughput is good for.
    row.eligible = row.error.empty() && !row.splits_scale_blocks &&
                   row.result.completed == most_completed &&
                   (advice.by_goodput || keeps_up(row, off, margin));
    if (row.eligible) eligible.push_back(i);
  }
  if (eligible.empty()) {
    throw Error(ErrorCode::kInfeasible,
                off.error.empty() ? "no candidate serves the requests" : off.error);
  }
  advice.chosen = least_change(advice, eligible, margin);
}

}  // namespace metro
