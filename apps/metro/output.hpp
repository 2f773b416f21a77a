// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace metro::cli {

/// The reader of stdout went away (`metro ... | head`): stop quietly.
struct ReaderGone {};

/// Writes `text` to stdout, all of it; on a terminal, long lines of prose are broken. The one place
/// that does; called once per command, last.
/// Throws Error{kInput} when stdout cannot take it (a full disk), ReaderGone for a closed pipe.
void print(std::string_view text);

/// What a progress line says after `seconds` of work: share done, rate, and time left. Rate and
/// time come once there is something to tell them from.
std::string progress_text(std::string_view label, std::size_t done, std::size_t total,
                          double seconds);

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
  using Clock = std::chrono::steady_clock;

  std::string label_;
  int width_;  // 0: stderr is no terminal
  bool is_shown_ = false;
  Clock::time_point start_ = Clock::now();
  Clock::time_point last_;
};

}  // namespace metro::cli
