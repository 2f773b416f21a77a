// SPDX-License-Identifier: Apache-2.0
#include "output.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "metro/error.hpp"

namespace metro::cli {

void print(std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(STDOUT_FILENO, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<std::size_t>(written));
      continue;
    }
    if (errno == EINTR) continue;
    if (errno == EPIPE) throw ReaderGone{};
    throw Error(ErrorCode::kInput,
                fmt::format("cannot write to stdout: {}", std::generic_category().message(errno)));
  }
}

Progress::Progress(std::string label)
    : label_(std::move(label)), is_terminal_(::isatty(STDERR_FILENO) == 1) {}

void Progress::wipe() {
  if (last_percent_ >= 0) std::fputs("\r\x1b[K", stderr);
  last_percent_ = -1;
}

void Progress::show(std::size_t done, std::size_t total) {
  if (!is_terminal_ || total == 0) return;
  const int percent = static_cast<int>(done * 100 / total);
  if (percent == last_percent_) return;
  last_percent_ = percent;
  std::fprintf(stderr, "\r%s %d %%", label_.c_str(), percent);
}

}  // namespace metro::cli
