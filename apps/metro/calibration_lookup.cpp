// SPDX-License-Identifier: Apache-2.0
#include "calibration_lookup.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/lower_case.hpp"
#include "metro/error.hpp"
#include "metro/gpu.hpp"

namespace metro::cli {
namespace {

constexpr int kMaxParents = 4;  // from build/PRESET/metro up to the source tree

std::vector<std::filesystem::path> folders() {
  if (const char* named = std::getenv("METRO_CALIBRATION_DIR")) {  // NOLINT(concurrency-mt-unsafe)
    return {named};
  }
  std::vector<std::filesystem::path> found;
  std::error_code error;
  std::filesystem::path at = std::filesystem::read_symlink("/proc/self/exe", error).parent_path();
  found.push_back(at.parent_path() / "share" / "metro" / "calibration");
  for (int i = 0; i < kMaxParents && !at.empty(); ++i) {
    found.push_back(at / "data" / "calibration");
    at = at.parent_path();
  }
  return found;
}

}  // namespace

std::filesystem::path find_calibration(const std::filesystem::path& option, std::string_view gpu) {
  if (option != "auto") return option;
  std::string name(find_gpu(gpu)->name);
  std::ranges::transform(name, name.begin(), lower_case);
  name += ".json";
  for (const std::filesystem::path& folder : folders()) {
    std::error_code error;
    if (std::filesystem::exists(folder / name, error)) return folder / name;
  }
  throw Error(ErrorCode::kInput,
              fmt::format("--calibration is auto, but metro came with no {}, give a file", name));
}

}  // namespace metro::cli
