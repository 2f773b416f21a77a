// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cli/run_metro.hpp"

namespace metro::test {

/// Arguments of a command line.
using Line = std::vector<std::string>;

inline Line with(Line line, const Line& more) {
  line.insert(line.end(), more.begin(), more.end());
  return line;
}

/// stdout of a line that must succeed in silence.
inline std::string output_of(const Line& line) {
  const Outcome outcome = run_metro(line);
  EXPECT_EQ(outcome.exit_code, 0) << outcome.err;
  EXPECT_EQ(outcome.err, "");
  return outcome.out;
}

/// The one line on stderr of a line that must fail, and print nothing else.
inline std::string error_of(const Line& line, int exit_code) {
  const Outcome outcome = run_metro(line);
  EXPECT_EQ(outcome.exit_code, exit_code) << outcome.err;
  EXPECT_EQ(outcome.out, "");
  EXPECT_EQ(std::count(outcome.err.begin(), outcome.err.end(), '\n'), 1) << outcome.err;
  return outcome.err;
}

}  // namespace metro::test
