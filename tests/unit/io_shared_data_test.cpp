// SPDX-License-Identifier: Apache-2.0
// The recorded traces that the project works with, where they are at hand.
#include <gtest/gtest.h>

#include <filesystem>

#include "metro/io.hpp"

namespace metro::io {
namespace {

namespace fs = std::filesystem;

TEST(IoSharedData, EveryTraceLoads) {
  const fs::path data = fs::path(METRO_SOURCE_DIR) / "../shared/data";
  if (!fs::is_directory(data)) GTEST_SKIP() << "no ../shared/data beside the source";
  int traces = 0;
  for (const char* folder : {"routing", "learned"}) {
    for (const auto& entry : fs::directory_iterator(data / folder)) {
      if (entry.path().extension() != ".npy") continue;
      const RoutingTrace trace = read_trace(entry.path());
      EXPECT_GE(trace.num_tokens(), 16000) << entry.path();
      EXPECT_GT(trace.info().sequence_lengths.size(), 100U) << entry.path();
      EXPECT_FALSE(trace.info().model.empty()) << entry.path();
      EXPECT_NE(trace.info().phase, "mixed") << entry.path();
      ++traces;
    }
  }
  EXPECT_EQ(traces, 6);
}

}  // namespace
}  // namespace metro::io
