// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "metro/simulate.hpp"

/// The options of a simulation, each described once: this table drives what the program accepts,
/// its help, the configuration, the configuration in results and the table in docs/simulator.md.
namespace metro::serving {

class Files;

/// What an option holds; nothing, where it was not given or does not apply.
using OptionValue = std::variant<std::monostate, std::int64_t, double, std::string>;

enum class OptionType : std::uint8_t {
  kInteger,
  kReal,
  kName,  ///< one of `names`
  kText,  ///< `check` says what
  kFile
};

/// How a message calls an option: "kv-dtype" is `--kv-dtype` on a command line.
using Spelling = std::string (*)(std::string_view name);

/// As a field: "kv-dtype" is kv_dtype.
std::string as_field(std::string_view name);

/// A configuration while options are applied to it, in the order of the table.
struct Draft {
  SimulationConfig config;
  Files& files;
  Spelling spelling;
};

struct Option {
  std::string_view name = {};  ///< words joined by hyphens
  OptionType type = OptionType::kText;
  std::string_view value = {};  ///< what stands for its value in help texts: "N", "P:D"
  double min = 0;               ///< of numbers
  double max = 0;
  std::vector<std::string_view> names = {};
  std::vector<std::string_view> old_names = {};  ///< taken too, and not shown
  std::string help = {};  ///< "{}" stands for the default, "{rate}" for option `rate`
  bool required = false;
  std::string key = {};  ///< in results, "slo.tpot_ms" inside of an object; empty: not there

  /// Throws Error{kUsage} that calls the option `name`, for faults that its text alone shows.
  void (*check)(std::string_view name, const std::string& text) = nullptr;
  /// Null for the options that describe requests: they only make sense together.
  void (*apply)(Draft& draft, const OptionValue& value) = nullptr;
  /// What is in force, and so the default of SimulationConfig; nothing: null in results. For
  /// options with a key.
  OptionValue (*in_force)(const SimulationConfig& config) = nullptr;
  /// Whether results show it; null: always.
  bool (*applies)(const SimulationConfig& config) = nullptr;

  /// `help` with its places filled in.
  [[nodiscard]] std::string help_text(Spelling spelling) const;
  /// The default as it would be written; empty where it follows from other options.
  [[nodiscard]] std::string default_text() const;
  /// `text` as a value. Throws Error{kUsage} that calls the option `spelled`.
  [[nodiscard]] OptionValue parse(std::string_view spelled, const std::string& text) const;
};

/// All options, in the order of help texts and results.
std::span<const Option> options();

/// The option of that name, which must be one.
const Option& find_option(std::string_view name);

/// A value as it would be written; empty for nothing.
std::string value_text(const OptionValue& value);

/// The text of an option in force in `config`.
std::string in_force_text(std::string_view name, const SimulationConfig& config);

}  // namespace metro::serving
