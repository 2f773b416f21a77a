// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>
#include <string>
#include <utility>

#include "metro/expert_cost.hpp"

namespace metro::cli {

/// --cost FILE with --shape and --dtype: what `hybrid` routes by and routings are priced by.
struct CostOptions {
  std::filesystem::path cost;
  std::pair<int, int> shape;
  std::string dtype;

  [[nodiscard]] bool is_given() const { return !cost.empty(); }

  /// Throws Error{kUsage} where the command line alone shows a fault.
  void check() const;

  /// The cost of the file, or the standard one where none was given.
  [[nodiscard]] std::shared_ptr<const ExpertCost> read() const;
};

void add_cost_options(CLI::App& command, CostOptions& options);

}  // namespace metro::cli
