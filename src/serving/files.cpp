// SPDX-License-Identifier: Apache-2.0
#include "serving/files.hpp"

#include "io/calibration_lookup.hpp"
#include "metro/io.hpp"

namespace metro::serving {

template <typename Value, typename Read>
const Value& Files::once(std::map<std::string, Value>& known, const std::filesystem::path& path,
                         const Read& read) {
  const auto found = known.find(path.string());
  if (found != known.end()) return found->second;
  const Value& value = known.emplace(path.string(), read(path)).first->second;
  inputs_.push_back(path);
  return value;
}

const ModelConfig& Files::model(const std::filesystem::path& path) {
  return once(models_, path, [](const auto& file) { return io::load_model_config(file); });
}

std::shared_ptr<const Calibration> Files::calibration(const std::filesystem::path& path,
                                                      const GpuSpec& gpu,
                                                      std::string_view spelled) {
  const auto file =
      path == "auto" ? io::find_calibration(calibration_folders_, gpu.name, spelled) : path;
  return once(calibrations_, file, [](const auto& known) {
    return std::make_shared<const Calibration>(io::read_calibration(known));
  });
}

std::shared_ptr<const RoutingTrace> Files::trace(const std::filesystem::path& path) {
  const std::size_t before = traces_.size();
  const auto& trace = once(traces_, path, [](const auto& file) {
    return std::make_shared<const RoutingTrace>(io::read_trace(file));
  });
  if (traces_.size() > before) {
    inputs_.push_back(std::filesystem::path(path).replace_extension(".json"));
  }
  return trace;
}

const std::vector<Request>& Files::requests(const std::filesystem::path& path) {
  return once(requests_, path, [](const auto& file) { return io::read_requests(file); });
}

}  // namespace metro::serving
