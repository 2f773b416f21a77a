// SPDX-License-Identifier: Apache-2.0
// The examples of docs/formats.md and docs/formats-runs.md are read by the readers that they
// explain.
#include <gtest/gtest.h>

#include "io/calibration_file.hpp"
#include "io/npy.hpp"
#include "io/parse.hpp"
#include "unit/io_support.hpp"

namespace metro::io {
namespace {

std::vector<std::string> json_examples() {
  const std::string page = io_test::get(METRO_SOURCE_DIR "/docs/formats.md") +
                           io_test::get(METRO_SOURCE_DIR "/docs/formats-runs.md");
  const std::string open = "```json\n";
  std::vector<std::string> examples;
  for (std::size_t at = page.find(open); at != std::string::npos; at = page.find(open, at)) {
    at += open.size();
    examples.push_back(page.substr(at, page.find("```", at) - at));
  }
  return examples;
}

TEST(IoDocs, ExamplesAreRead) {
  int read = 0;
  for (const std::string& example : json_examples()) {
    SCOPED_TRACE(example);
    const auto has = [&](const char* text) { return example.find(text) != std::string::npos; };
    if (has("metro-placement")) {
      EXPECT_EQ(parse_placement(example, "f").num_gpus, 2);
    } else if (has("metro-loads")) {
      EXPECT_EQ(parse_loads(text_bytes(example), "f").num_experts, 4);
    } else if (has("metro-calibration")) {
      EXPECT_EQ(parse_calibration(example, "f").experts.size(), 1U);
    } else if (has("beyond")) {
      EXPECT_GT(parse_expert_cost(example, {}, "f").base(), 0);
    } else if (has("metro-trace")) {
      const std::size_t ids = (102 + 77 + 143) * 26 * 6;
      const std::string array =
          format_npy_header({'u', 1}, {102 + 77 + 143, 26, 6}) + std::string(ids, '\0');
      const RoutingTrace trace = parse_trace(nullptr, text_bytes(array), "f.npy",
                                             [&] { return NamedText{example, "f.json"}; });
      EXPECT_EQ(trace.num_experts(), 64);
    } else {
      continue;
    }
    ++read;
  }
  EXPECT_EQ(read, 5);
}

}  // namespace
}  // namespace metro::io
