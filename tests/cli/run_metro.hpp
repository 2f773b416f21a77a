// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace metro::test {

struct Outcome {
  int exit_code = -1;
  std::string out;
  std::string err;
};

/// Runs the built `metro` with these arguments, stdout to `stdout_path` where one is given.
/// `prepare` runs in the child before it: resource limits, say.
Outcome run_metro(const std::vector<std::string>& arguments,
                  const std::filesystem::path& stdout_path = {},
                  const std::function<void()>& prepare = {});

/// The same on a terminal, which shows `out`: stdout and stderr as they come, bytes as written.
Outcome run_metro_on_terminal(const std::vector<std::string>& arguments);

/// A folder of its own for a test, removed at the end.
class TemporaryFolder {
 public:
  TemporaryFolder();
  ~TemporaryFolder();
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;

  [[nodiscard]] std::string file(const std::string& name) const { return (path_ / name).string(); }
  /// Writes a file and returns its path.
  [[nodiscard]] std::string write(const std::string& name, const std::string& text) const;
  /// A decode trace of `num_tokens` x 2 layers x 2 of 8 experts in sequences of 8 tokens.
  [[nodiscard]] std::string write_trace(const std::string& name, int num_tokens = 128) const;
  [[nodiscard]] std::vector<std::string> names() const;

 private:
  std::filesystem::path path_;
};

std::string read_text(const std::filesystem::path& path);

}  // namespace metro::test
