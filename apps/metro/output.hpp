// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace metro::cli {

/// The reader of stdout went away (`metro ... | head`): stop quietly.
struct ReaderGone {};

/// Writes `text` to stdout, all of it. The one place that does; called once per command, last.
/// Throws Error{kInput} when stdout cannot take it (a full disk), ReaderGone for a closed pipe.
void print(std::string_view text);

/// Progress of long work: a line on stderr that overwrites itself, only where stderr is a terminal.
class Progress {
 public:
  explicit Progress(std::string label);
  ~Progress() { wipe(); }
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  void show(std::size_t done, std::size_t total);
  void wipe();  ///< before anything else is printed

 private:
  std::string label_;
  bool is_terminal_;
  int last_percent_ = -1;
};

}  // namespace metro::cli
