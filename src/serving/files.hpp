// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "metro/simulate.hpp"

namespace metro::serving {

/// Reads the files that options name, each once however many configurations ask for it. Any number
/// of threads once every file that they ask for has been read.
class Files {
 public:
  /// A calibration called "auto" is looked for in `calibration_folders`.
  explicit Files(std::vector<std::filesystem::path> calibration_folders = {})
      : calibration_folders_(std::move(calibration_folders)) {}

  const ModelConfig& model(const std::filesystem::path& path);
  /// `spelled` is what a message calls the option.
  std::shared_ptr<const Calibration> calibration(const std::filesystem::path& path,
                                                 const GpuSpec& gpu, std::string_view spelled);
  std::shared_ptr<const RoutingTrace> trace(const std::filesystem::path& path);
  const std::vector<Request>& requests(const std::filesystem::path& path);

  /// All files read, in the order of their first use; a trace with its `.json`.
  [[nodiscard]] const std::vector<std::filesystem::path>& inputs() const noexcept {
    return inputs_;
  }

 private:
  template <typename Value, typename Read>
  const Value& once(std::map<std::string, Value>& known, const std::filesystem::path& path,
                    const Read& read);

  std::vector<std::filesystem::path> calibration_folders_;
  std::map<std::string, ModelConfig> models_;
  std::map<std::string, std::shared_ptr<const Calibration>> calibrations_;
  std::map<std::string, std::vector<Request>> requests_;
  std::map<std::string, std::shared_ptr<const RoutingTrace>> traces_;
  std::vector<std::filesystem::path> inputs_;
};

}  // namespace metro::serving
