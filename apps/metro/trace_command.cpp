// SPDX-License-Identifier: Apache-2.0
#include "trace_command.hpp"

#include <fmt/format.h>

#include "command.hpp"
#include "metro/error.hpp"

namespace metro::cli {

void check_trace_name(const std::filesystem::path& output) {
  if (output.extension() == ".npy") return;
  throw Error(ErrorCode::kUsage, fmt::format("-o is '{}', must end in .npy", output.string()));
}

void add_trace(CLI::App& app) {
  CLI::App* trace = add_group(app, "trace", "Look into, convert or generate routing traces");
  add_trace_info(*trace);
  add_trace_convert(*trace);
  add_trace_generate(*trace);
}

}  // namespace metro::cli
