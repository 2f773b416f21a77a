// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "io/calibration_file.hpp"
#include "io/fail.hpp"
#include "io/file_bytes.hpp"
#include "io/json_reader.hpp"
#include "io/parse.hpp"
#include "metro/error.hpp"

namespace metro::io {
namespace {

constexpr int kVersion = 1;
constexpr std::size_t kMaxPhi = std::size_t{1} << 20;

ExpertTimes read_times(const JsonRef& root) {
  check_format(root, "metro-expert-cost", kVersion, false);
  ExpertTimes times;
  const JsonRef phi = root.at("phi");
  const std::size_t count = phi.array_size();
  if (count > kMaxPhi) {
    fail(root.file(), fmt::format("phi has {} entries, must have at most {}", count, kMaxPhi));
  }
  times.phi_us.clear();
  times.phi_us.reserve(count);
  for (std::size_t n = 0; n < count; ++n) {
    const JsonRef us = phi[n];
    times.phi_us.push_back(us.number());
  }
  const JsonRef beyond = root.at("beyond");
  times.beyond_us = beyond.number();
  if (const auto base = root.find("base")) times.base_us = base->number();
  return times;
}

std::string name_of(const Calibration::ExpertTime& entry) {
  return fmt::format("{}x{} {}", entry.hidden, entry.intermediate, data_type_name(entry.weights));
}

/// What the choice asks for, in words of its options.
std::string text_of(const ExpertChoice& choice) {
  std::string text = choice.hidden == 0
                         ? std::string("any shape")
                         : fmt::format("shape {}x{}", choice.hidden, choice.intermediate);
  if (choice.weights) text += fmt::format(" and dtype {}", data_type_name(*choice.weights));
  return text;
}

/// What ExpertCost refuses, with the file's name before it.
template <typename Make>
ExpertCost checked(std::string_view file, Make make) {
  try {
    return make();
  } catch (const Error& error) {
    fail(file, error.what());
  }
}

ExpertCost pick(const Calibration& calibration, const ExpertChoice& choice, std::string_view file) {
  std::string known;
  std::vector<const Calibration::ExpertTime*> found;
  for (const Calibration::ExpertTime& entry : calibration.experts) {
    known += (known.empty() ? "" : ", ") + name_of(entry);
    const bool is_shape = choice.hidden == 0 || (entry.hidden == choice.hidden &&
                                                 entry.intermediate == choice.intermediate);
    if (is_shape && (!choice.weights || entry.weights == *choice.weights)) found.push_back(&entry);
  }
  if (known.empty()) fail(file, "experts is empty, a cost needs the time of some expert");
  if (found.size() != 1) {
    fail(file, fmt::format("experts has {} of {}, shape and dtype must name one of {}",
                           found.size(), text_of(choice), known));
  }
  return checked(
      file, [&] { return ExpertCost::from_points(found.front()->phi_us, found.front()->base_us); });
}

}  // namespace

ExpertCost parse_expert_cost(std::string_view text, const ExpertChoice& choice,
                             std::string_view file) {
  const nlohmann::json document = parse_json(text, file);
  const JsonRef root(document, file);
  const bool is_calibration = !root.find("phi") && (root.find("experts") || root.find("gpu"));
  if (is_calibration) return pick(parse_calibration(text, file), choice, file);
  if (choice.hidden != 0 || choice.weights) {
    fail(file, "has phi itself, so it takes no shape and no dtype: they pick from a calibration");
  }
  ExpertTimes times = read_times(root);
  return checked(file, [&] { return ExpertCost(std::move(times)); });
}

ExpertCost read_expert_cost(const std::filesystem::path& path, const ExpertChoice& choice) {
  const FileBytes file(path);
  return parse_expert_cost(as_text(file.bytes()), choice, path.string());
}

}  // namespace metro::io
