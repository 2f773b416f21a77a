// SPDX-License-Identifier: Apache-2.0
#include "report/result.hpp"

#include "metro/io.hpp"

namespace metro::report {

std::string_view to_string(Evidence evidence) {
  if (evidence == Evidence::kEmulated) return "emulated";
  return evidence == Evidence::kMeasured ? "measured" : "simulated";
}

nlohmann::ordered_json make_result(std::string_view command, Evidence evidence, std::uint64_t seed,
                                   const std::vector<std::filesystem::path>& inputs) {
  nlohmann::ordered_json files = nlohmann::ordered_json::array();
  for (const auto& path : inputs) {
    files.push_back({{"path", path.string()}, {"sha256", io::sha256_file(path)}});
  }
  return {{"format", "metro-result"},        {"version", 1}, {"command", command},
          {"evidence", to_string(evidence)}, {"seed", seed}, {"inputs", std::move(files)}};
}

std::vector<std::filesystem::path> trace_files(const std::filesystem::path& npy) {
  return {npy, std::filesystem::path(npy).replace_extension(".json")};
}

std::string to_text(const nlohmann::ordered_json& result) {
  return result.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace metro::report
