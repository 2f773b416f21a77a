// SPDX-License-Identifier: Apache-2.0
#include "cost/nonnegative_fit.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>

namespace metro::cost {
namespace {

using Column = std::vector<double>;

constexpr double kTolerance = 1e-10;  // of a gradient, for columns and b of length 1

double dot(std::span<const double> a, std::span<const double> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
  return sum;
}

double length(std::span<const double> a) { return std::sqrt(dot(a, a)); }

void scale(Column& a, double factor) {
  for (double& value : a) value *= factor;
}

/// Takes out of `a` what lies along the unit vector `q`; how much that was.
double take_out(Column& a, const Column& q) {
  const double along = dot(a, q);
  for (std::size_t i = 0; i < a.size(); ++i) a[i] -= along * q[i];
  return along;
}

/// Plain least squares over the chosen columns, by Gram-Schmidt done twice.
std::vector<double> least_squares(const std::vector<Column>& columns,
                                  const std::vector<std::size_t>& chosen, Column b) {
  const std::size_t n = chosen.size();
  std::vector<Column> q;
  std::vector<Column> r(n, Column(n, 0.0));  // upper triangle
  std::vector<double> x(n, 0.0);
  for (std::size_t j = 0; j < n; ++j) {
    q.push_back(columns[chosen[j]]);
    for (int pass = 0; pass < 2; ++pass) {
      for (std::size_t i = 0; i < j; ++i) r[i][j] += take_out(q[j], q[i]);
    }
    r[j][j] = length(q[j]);
    if (r[j][j] > 0) scale(q[j], 1 / r[j][j]);
    x[j] = take_out(b, q[j]);
  }
  for (std::size_t j = n; j-- > 0;) {
    for (std::size_t k = j + 1; k < n; ++k) x[j] -= r[j][k] * x[k];
    x[j] = r[j][j] > kTolerance ? x[j] / r[j][j] : 0.0;
  }
  return x;
}

/// Columns and b scaled to length 1, so that one tolerance suits all.
class ActiveSets {
 public:
  ActiveSets(std::vector<Column> columns, Column b)
      : columns_(std::move(columns)), b_(std::move(b)), x_(columns_.size(), 0.0) {}

  std::vector<double> solve() {
    for (std::size_t round = 0; round < 10 * columns_.size() + 10; ++round) {
      const std::size_t entering = steepest();
      if (entering == columns_.size()) break;
      positive_.push_back(entering);
      if (!settle()) break;
    }
    return x_;
  }

 private:
  /// The column that helps most, or columns_.size() when none does.
  [[nodiscard]] std::size_t steepest() const {
    Column residual = b_;
    for (const std::size_t j : positive_) {
      for (std::size_t i = 0; i < residual.size(); ++i) residual[i] -= columns_[j][i] * x_[j];
    }
    std::size_t best = columns_.size();
    double most = kTolerance;
    for (std::size_t j = 0; j < columns_.size(); ++j) {
      if (std::ranges::find(positive_, j) != positive_.end()) continue;
      const double gradient = dot(columns_[j], residual);
      if (gradient > most) {
        most = gradient;
        best = j;
      }
    }
    return best;
  }

  /// Goes towards the free optimum of the positive columns until one of them reaches 0, and again.
  /// False when the column that entered could not stay.
  bool settle() {
    const std::size_t entered = positive_.back();
    while (!positive_.empty()) {
      const std::vector<double> target = least_squares(columns_, positive_, b_);
      double step = 1;
      for (std::size_t k = 0; k < positive_.size(); ++k) {
        const double now = x_[positive_[k]];
        if (target[k] <= 0) step = std::min(step, now / (now - target[k]));
      }
      if (!(step >= 0)) step = 0;  // 0 / 0: already there
      for (std::size_t k = 0; k < positive_.size(); ++k) {
        double& now = x_[positive_[k]];
        now = step < 1 ? now + step * (target[k] - now) : target[k];
        if (target[k] <= 0 && now < kTolerance) now = 0;
      }
      if (step >= 1) break;
      std::erase_if(positive_, [&](std::size_t j) { return x_[j] <= 0; });
    }
    return std::ranges::find(positive_, entered) != positive_.end();
  }

  std::vector<Column> columns_;
  Column b_;
  std::vector<double> x_;
  std::vector<std::size_t> positive_;
};

}  // namespace

std::vector<double> fit_nonnegative(const std::vector<std::vector<double>>& columns,
                                    std::span<const double> b) {
  std::vector<Column> scaled = columns;
  std::vector<double> lengths;
  for (Column& column : scaled) {
    lengths.push_back(length(column));
    if (lengths.back() > 0) scale(column, 1 / lengths.back());
  }
  Column target(b.begin(), b.end());
  const double target_length = length(target);
  if (!(target_length > 0)) return std::vector<double>(columns.size(), 0.0);
  scale(target, 1 / target_length);
  std::vector<double> x = ActiveSets(std::move(scaled), std::move(target)).solve();
  for (std::size_t j = 0; j < x.size(); ++j) {
    x[j] = lengths[j] > 0 ? x[j] * target_length / lengths[j] : 0.0;
  }
  return x;
}

}  // namespace metro::cost
