// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>

namespace metro {

/// Largest load over the mean load.
double max_over_mean(std::span<const double> load);

/// 0 when all loads are equal, 1 - 1/E when one expert has everything.
double gini(std::span<const double> load);

/// Share of the load that the `count` hottest experts have.
double hottest_share(std::span<const double> load, std::size_t count);

/// 99th percentile of P(both) / (P(a) P(b)) over the pairs of experts that would meet at least
/// `min_expected` times by chance; NaN without such a pair. `ids` is [tokens][topk], kMasked
/// allowed.
double coactivation_lift_p99(std::span<const std::int32_t> ids, int topk, int num_experts,
                             double min_expected);

}  // namespace metro
