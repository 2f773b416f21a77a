// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <span>
#include <vector>

namespace metro::cost {

/// The x >= 0 that makes |A x - b| least: Lawson and Hanson's active sets (Solving Least Squares
/// Problems, 1974, chapter 23).
///
/// `columns` are those of A, each as long as `b`. Of columns that say the same, one counts and the
/// others get 0. For tables of some tens of columns.
std::vector<double> fit_nonnegative(const std::vector<std::vector<double>>& columns,
                                    std::span<const double> b);

}  // namespace metro::cost
