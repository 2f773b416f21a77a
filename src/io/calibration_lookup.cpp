// SPDX-License-Identifier: Apache-2.0
#include "io/calibration_lookup.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "core/lower_case.hpp"
#include "metro/error.hpp"
#include "metro/gpu.hpp"

namespace metro::io {

std::filesystem::path find_calibration(std::span<const std::filesystem::path> folders,
                                       std::string_view gpu, std::string_view name) {
  std::string file(find_gpu(gpu)->name);
  std::ranges::transform(file, file.begin(), lower_case);
  file += ".json";
  for (const std::filesystem::path& folder : folders) {
    std::error_code error;
    if (std::filesystem::exists(folder / file, error)) return folder / file;
  }
  throw Error(ErrorCode::kInput,
              fmt::format("{} is auto, but metro came with no {}, give a file", name, file));
}

}  // namespace metro::io
