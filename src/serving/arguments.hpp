// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "serving/option.hpp"

namespace metro::serving {

class Files;

/// Options of one simulation, given as text.
///
///     Arguments arguments;
///     arguments.set("model", "gpt-oss-20b");
///     arguments.check();
///     SimulationConfig config = arguments.config(files, seed);
///
/// Messages call options as `spelling` does.
class Arguments {
 public:
  explicit Arguments(Spelling spelling = as_field) : spelling_(spelling) {}

  /// Throws Error{kUsage} for an unknown name, or a text that is no value of the option.
  void set(std::string_view name, const std::string& text);

  /// Throws Error{kUsage} for options that miss or exclude each other.
  void check() const;

  /// The configuration that checked options ask for. Reads files through `files`.
  [[nodiscard]] SimulationConfig config(Files& files, std::uint64_t seed) const;

 private:
  [[nodiscard]] const OptionValue& value(std::string_view name) const;
  [[nodiscard]] bool has(std::string_view name) const { return value(name).index() != 0; }
  [[nodiscard]] std::int64_t whole(std::string_view name) const;
  void check_requests() const;

  Spelling spelling_;
  std::vector<OptionValue> values_ = std::vector<OptionValue>(options().size());
};

}  // namespace metro::serving
