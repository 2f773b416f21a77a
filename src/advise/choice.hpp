// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <span>

#include "metro/advise.hpp"

namespace metro {

/// Sets `chosen`, `by_goodput` and each row's `eligible` of an advice whose rows are simulated.
///
/// Candidates that complete fewer requests than the most, or give fewer output tokens per second
/// than EPLB off by more than `margin`, are out. Of the others the best is that of the least mean
/// TPOT; where an SLO was asked for and kept by any request, that of the most goodput instead. Then
/// the least change that is as good within `margin` is taken: EPLB off, then shards in ascending
/// number up to moe-TP, then by replication. Shards that split scale blocks are never chosen.
void choose(Advice& advice, bool has_slo, double margin);

/// Of the rows `among`, at least one, the least change that is as good as the best within `margin`.
std::size_t least_change(const Advice& advice, std::span<const std::size_t> among, double margin);

/// How much better `row` is than `than`: above 0, a share of the TPOT or of the goodput.
double gain(const AdviceRow& row, const AdviceRow& than, bool by_goodput) noexcept;

}  // namespace metro
