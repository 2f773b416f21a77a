// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>

namespace metro::cli {

/// `validate --bench`: predicts the rows of a `bench layer --json` result and prints how far off.
struct ValidateLayers {
  std::filesystem::path bench;
  std::filesystem::path calibration;  ///< empty: none; "auto": what came with metro
  std::string gpu;                    ///< empty: what the result names
  bool json = false;
  std::uint64_t seed = 0;
};
void validate_layers(const ValidateLayers& options);

}  // namespace metro::cli
