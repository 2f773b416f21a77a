// SPDX-License-Identifier: Apache-2.0
#include "output.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <system_error>
#include <utility>

#include "metro/error.hpp"
#include "terminal.hpp"

namespace metro::cli {
namespace {

void write_all(std::string_view text) {
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

/// "8 s", "3 min 20 s", "2 h 5 min".
std::string duration(double seconds) {
  const auto whole = static_cast<long long>(seconds + 0.5);
  if (whole < 60) return fmt::format("{} s", whole);
  if (whole < 3600) return fmt::format("{} min {} s", whole / 60, whole % 60);
  return fmt::format("{} h {} min", whole / 3600, whole % 3600 / 60);
}

}  // namespace

void print(std::string_view text) {
  const int width = terminal_width(STDOUT_FILENO);
  const bool is_json = text.starts_with('{');  // which is for programs, on a terminal too
  if (width == 0 || is_json) {
    write_all(text);
  } else {
    write_all(fit_prose(text, width));
  }
}

std::string progress_text(std::string_view label, std::size_t done, std::size_t total,
                          double seconds) {
  constexpr double kTooSoon = 1;
  std::string text = fmt::format("{} {} %", label, done * 100 / total);
  if (done == 0 || seconds < kTooSoon) return text;
  const double rate = static_cast<double>(done) / seconds;
  text += fmt::format(", {} of {}, {:.{}f}/s", done, total, rate, rate < 10 ? 1 : 0);
  if (done < total) {
    text += fmt::format(", {} left", duration(static_cast<double>(total - done) / rate));
  }
  return text;
}

Progress::Progress(std::string label)
    : label_(std::move(label)), width_(terminal_width(STDERR_FILENO)) {}

void Progress::wipe() {
  if (is_shown_) std::fputs("\r\x1b[K", stderr);
  is_shown_ = false;
}

void Progress::show(std::size_t done, std::size_t total) {
  if (width_ == 0 || total == 0) return;
  // Often enough to see it move, seldom enough to cost nothing.
  constexpr std::chrono::milliseconds kPause{100};
  const Clock::time_point now = Clock::now();
  if (is_shown_ && now - last_ < kPause && done < total) return;
  last_ = now;
  is_shown_ = true;
  const std::chrono::duration<double> spent = now - start_;
  const std::string text = progress_text(label_, done, total, spent.count());
  const auto room = static_cast<std::size_t>(width_ - 1);
  std::fprintf(stderr, "\r\x1b[K%.*s", static_cast<int>(std::min(text.size(), room)), text.c_str());
}

}  // namespace metro::cli
