// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "metro/calibration.hpp"
#include "metro/expert_cost.hpp"
#include "metro/loads.hpp"
#include "metro/model.hpp"
#include "metro/placement.hpp"
#include "metro/requests.hpp"
#include "metro/topk.hpp"
#include "metro/trace.hpp"

/// Readers and writers of the files in docs/formats.md. Readers throw Error{kInput} with one line
/// that names the file as given, the field or index, the value, and what would be right.
namespace metro::io {

/// Maps `<stem>.npy`, checks it, then reads `<stem>.json` and checks every id. No copy of the data.
RoutingTrace read_trace(const std::filesystem::path& npy);

/// Writes `<stem>.npy` with the smallest unsigned type that holds the ids (signed when one is
/// masked), and `<stem>.json`. Throws Error{kUsage} when the path does not end in .npy.
void write_trace(const RoutingTrace& trace, const std::filesystem::path& npy);

/// `.npy` [layers, experts], or JSON {"loads": [[...], ...]}; told apart by the content.
Loads read_loads(const std::filesystem::path& path);

/// `.npy` [tokens, topk], or JSON [[...], ...]. Ids are checked against `num_experts`.
TopkBatch read_topk(const std::filesystem::path& path, int num_experts);

Placement read_placement(const std::filesystem::path& path);

/// Requests of an Azure, BurstGPT or vidur CSV or of Mooncake's JSON lines, told apart by header or
/// keys, in order of arrival; the first arrives at 0.
std::vector<Request> read_requests(const std::filesystem::path& path);

/// A Hugging Face config.json. The model is named by the file, or for a `config.json` by its
/// folder.
ModelConfig load_model_config(const std::filesystem::path& path);

/// What `metro calibrate` measured on a GPU.
Calibration read_calibration(const std::filesystem::path& path);

/// Which experts of a calibration; what is left out must leave one choice.
struct ExpertChoice {
  int hidden = 0;  ///< 0: any shape
  int intermediate = 0;
  std::optional<DataType> weights{};
};

/// phi, beyond and base of one kind of expert: a file of these, or one of a calibration's.
ExpertCost read_expert_cost(const std::filesystem::path& path, const ExpertChoice& choice = {});

/// The calibration file's text, ending in a newline. Throws as Calibration::validate.
std::string format_calibration(const Calibration& calibration);

/// The placement file's text, ending in a newline. Throws as Placement::validate.
std::string format_placement(const Placement& placement);

/// Replaces `path` by `text` in one atomic rename: readers see the old file or the new one. What is
/// no regular file (/dev/stdout, a pipe) is written straight through.
void write_file(const std::filesystem::path& path, std::string_view text);

/// SHA-256 of a file's bytes in lower-case hex; empty for a pipe or device, whose bytes cannot be
/// read a second time.
std::string sha256_file(const std::filesystem::path& path);

}  // namespace metro::io
