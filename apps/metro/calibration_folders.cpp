// SPDX-License-Identifier: Apache-2.0
#include "calibration_folders.hpp"

#include <cstdlib>

namespace metro::cli {
namespace {

constexpr int kMaxParents = 4;  // from build/PRESET/metro up to the source tree

}  // namespace

std::vector<std::filesystem::path> calibration_folders() {
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

}  // namespace metro::cli
