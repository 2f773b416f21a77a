// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "metro/reproduce.hpp"
#include "reproduce/pairs.hpp"

namespace metro::reproduction {

/// Per cent that `value` lies above `base`.
[[nodiscard]] inline double change(double value, double base) { return 100 * (value / base - 1); }

/// One quantity of every system, in the order of `systems()`.
class SystemValues {
 public:
  explicit SystemValues(std::vector<double> values) : values_(std::move(values)) {}

  [[nodiscard]] double of(const System& system) const;
  /// Per cent above another system.
  [[nodiscard]] double change_of(const System& system, const System& base) const {
    return change(of(system), of(base));
  }

 private:
  std::vector<double> values_;
};

/// A row that says by how many per cent `system` changes a quantity of `base`, with the rivals'
/// change beside it.
ReproducedRow change_row(std::string where, std::string quantity, std::string paper,
                         const SystemValues& values, const System& system, const System& base);

/// The same for differences, in `unit`.
ReproducedRow difference_row(std::string where, std::string quantity, std::string unit,
                             std::string paper, const SystemValues& values, const System& system,
                             const System& base);

/// Bars of per cent against `base`: a series for each other system, a category for each entry.
Plot change_plot(std::string title, std::string y_label, std::vector<std::string> categories,
                 const std::vector<SystemValues>& values, const System& base);

/// "1.5x".
std::string times_text(double value);

}  // namespace metro::reproduction
