// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "metro/simulate.hpp"

namespace metro::cli {

/// What `simulate` takes, and `sweep` takes lists of.
struct ServingOptions {
  std::string model;
  std::string gpu;
  int gpus = 0;
  int tp = 1;
  int ep = 0;
  std::string dtype;  ///< empty: what the model's config says
  std::string kv_dtype = "bf16";
  double replication = 1;
  std::string algorithm{kHomedAlgorithm};
  std::string policy{kDefaultDecodePolicy};
  std::string prefill_policy{kDefaultPrefillPolicy};
  std::string experts = "ep";
  std::string dispatch = "all-gather";
  int gpus_per_domain = 0;
  std::string engine;
  std::filesystem::path calibration;
  int draft_tokens = 0;
  double draft_acceptance = 0.7;
  int rearrange_every = 0;
  std::string routing;
  std::filesystem::path requests;
  int isl = 0;
  int osl = 0;
  int num_requests = 0;
  double rate = 0;
  int concurrency = 0;
  int max_batch = 0;
  int chunk = 8192;
  std::string fidelity = "table";
  std::string disaggregate;
  double slo_tpot_ms = 0;
  double slo_ttft_ms = 0;
};

/// Adds the options, each with one value.
void add_serving_options(CLI::App& command, ServingOptions& options);

/// Throws Error{kUsage} for what the command line alone shows: options that miss or exclude each
/// other, unknown names.
void check_serving_options(const ServingOptions& options);

/// Reads the files that options name, each once however many configurations ask for it.
class ServingFiles {
 public:
  /// The configuration that checked options ask for. Any number of threads once the files of the
  /// options have been read.
  SimulationConfig config(const ServingOptions& options, std::uint64_t seed);

  /// All files read, in the order of their first use; a trace with its `.json`.
  [[nodiscard]] const std::vector<std::filesystem::path>& inputs() const noexcept {
    return inputs_;
  }

 private:
  template <typename Value, typename Read>
  const Value& once(std::map<std::string, Value>& known, const std::filesystem::path& path,
                    const Read& read);

  std::map<std::string, ModelConfig> models_;
  std::map<std::string, std::shared_ptr<const Calibration>> calibrations_;
  std::map<std::string, std::vector<Request>> requests_;
  std::map<std::string, std::shared_ptr<const RoutingTrace>> traces_;
  std::vector<std::filesystem::path> inputs_;
};

}  // namespace metro::cli
