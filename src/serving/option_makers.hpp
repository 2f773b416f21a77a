// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "serving/option.hpp"

/// Options that are a member of SimulationConfig or of its Deployment.
namespace metro::serving {

template <auto kMember>
struct MemberOf;
template <typename Class, typename Type, Type Class::* kMember>
struct MemberOf<kMember> {
  using Value = Type;
  template <typename Config>
  static auto& in(Config& config) noexcept {
    if constexpr (std::is_same_v<Class, Deployment>) {
      return config.deployment.*kMember;
    } else {
      return config.*kMember;
    }
  }
};

/// How an option's value is kept that a member of `Type` holds.
template <typename Type>
using Stored = std::conditional_t<std::is_integral_v<Type>, std::int64_t, Type>;

template <auto kMember>
void set_member(Draft& draft, const OptionValue& value) {
  using Type = typename MemberOf<kMember>::Value;
  MemberOf<kMember>::in(draft.config) = static_cast<Type>(std::get<Stored<Type>>(value));
}

template <auto kMember>
OptionValue get_member(const SimulationConfig& config) {
  using Type = typename MemberOf<kMember>::Value;
  return static_cast<Stored<Type>>(MemberOf<kMember>::in(config));
}

/// 0 is "none".
template <auto kMember>
OptionValue get_positive_member(const SimulationConfig& config) {
  const auto value = MemberOf<kMember>::in(config);
  return value > 0 ? OptionValue(value) : OptionValue();
}

/// Members that have a name for each value, as an array of {name, value}.
template <auto kMember, const auto& kNames>
void set_named(Draft& draft, const OptionValue& value) {
  const auto& text = std::get<std::string>(value);
  MemberOf<kMember>::in(draft.config) =
      std::ranges::find(kNames, text, [](const auto& row) { return row.first; })->second;
}

template <auto kMember, const auto& kNames>
OptionValue get_named(const SimulationConfig& config) {
  const auto value = MemberOf<kMember>::in(config);
  return std::string(
      std::ranges::find(kNames, value, [](const auto& row) { return row.second; })->first);
}

// Options by what they hold, each kept in a member. Their key in results is their name as a field.

inline Option make_option(std::string_view name, OptionType type, std::string_view value,
                          std::string help) {
  Option option;
  option.name = name;
  option.type = type;
  option.value = value;
  option.help = std::move(help);
  option.key = as_field(name);
  return option;
}

template <auto kMember>
Option kept_in_member(Option option) {
  option.apply = set_member<kMember>;
  option.in_force = get_member<kMember>;
  return option;
}

inline Option number(std::string_view name, OptionType type, double min, double max,
                     std::string help) {
  Option option =
      make_option(name, type, type == OptionType::kInteger ? "N" : "X", std::move(help));
  option.min = min;
  option.max = max;
  return option;
}

template <auto kMember>
Option whole(std::string_view name, double min, double max, std::string help) {
  return kept_in_member<kMember>(number(name, OptionType::kInteger, min, max, std::move(help)));
}

template <auto kMember>
Option real(std::string_view name, double min, double max, std::string help) {
  return kept_in_member<kMember>(number(name, OptionType::kReal, min, max, std::move(help)));
}

/// One of the names of a table of the library.
template <auto kMember>
Option one_of(std::string_view name, std::vector<std::string_view> names, std::string help) {
  Option option = make_option(name, OptionType::kName, "NAME", std::move(help));
  option.names = std::move(names);
  return kept_in_member<kMember>(std::move(option));
}

/// One of the names of `kNames`, an array of {name, value}.
template <auto kMember, const auto& kNames>
Option named(std::string_view name, std::string help) {
  Option option = make_option(name, OptionType::kName, "NAME", std::move(help));
  // A second name of a value is an old spelling.
  for (const auto& row : kNames) {
    const auto first =
        std::ranges::find(kNames, row.second, [](const auto& r) { return r.second; });
    (first->first == row.first ? option.names : option.old_names).push_back(row.first);
  }
  option.apply = set_named<kMember, kNames>;
  option.in_force = get_named<kMember, kNames>;
  return option;
}

inline Option required(Option option) {
  option.required = true;
  return option;
}

/// Results do not show it: they name the files, and figures tell the rest.
inline Option not_shown(Option option) {
  option.key.clear();
  option.in_force = nullptr;
  return option;
}

}  // namespace metro::serving
