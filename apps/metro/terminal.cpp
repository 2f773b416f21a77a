// SPDX-License-Identifier: Apache-2.0
#include "terminal.hpp"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>

#include "report/table.hpp"

namespace metro::cli {
namespace {

constexpr int kLeastWidth = 80;
// Where CLI11 puts the explanation of an option.
constexpr std::size_t kHelpColumn = 30;

std::size_t indentation(std::string_view line) {
  return std::min(line.find_first_not_of(' '), line.size());
}

bool is_of_table(std::string_view line) {
  return line.find("  ", indentation(line)) != std::string_view::npos;
}

/// Breaks one line; those after the first are indented by `hang`.
void break_line(std::string& out, std::string_view line, std::size_t width, std::size_t hang) {
  std::size_t begin = indentation(line);
  std::size_t column = begin;
  out.append(begin, ' ');
  while (line.size() - begin > width - column) {
    // The last blank that leaves the words before it room, else the last comma of a long list, else
    // the first blank after.
    const std::size_t room = width - column;
    std::size_t at = line.rfind(' ', begin + room);
    if (at == std::string_view::npos || at <= begin) {
      at = line.rfind(',', begin + room - 1);
      at = at == std::string_view::npos || at <= begin ? line.find(' ', begin + 1) : at + 1;
    }
    if (at == std::string_view::npos) break;
    out.append(line.substr(begin, at - begin)).append("\n").append(hang, ' ');
    begin = line[at] == ' ' ? at + 1 : at;
    column = hang;
  }
  out.append(line.substr(begin));
}

template <typename BreakLine>
std::string for_lines(std::string_view text, BreakLine&& break_one) {
  std::string out;
  while (!text.empty()) {
    const std::size_t end = text.find('\n');
    break_one(out, text.substr(0, end));
    if (end == std::string_view::npos) break;
    out += '\n';
    text.remove_prefix(end + 1);
  }
  return out;
}

}  // namespace

int terminal_width(int stream) {
  if (::isatty(stream) != 1) return 0;
  winsize size{};
  const bool known = ::ioctl(stream, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
  return known ? std::max<int>(size.ws_col, kLeastWidth) : kLeastWidth;
}

int table_width(bool wide) {
  const int width = terminal_width(STDOUT_FILENO);
  return wide || width == 0 ? report::kAnyWidth : width;
}

std::string fit_prose(std::string_view text, int width) {
  const auto most = static_cast<std::size_t>(width);
  return for_lines(text, [most](std::string& out, std::string_view line) {
    if (line.size() <= most || is_of_table(line)) {
      out += line;
    } else {
      break_line(out, line, most, indentation(line));
    }
  });
}

std::string fit_help(std::string_view text, int width) {
  const auto most = static_cast<std::size_t>(width);
  return for_lines(text, [most](std::string& out, std::string_view line) {
    const bool explains =
        line.size() > kHelpColumn && line[kHelpColumn - 1] == ' ' && line[kHelpColumn] != ' ';
    if (line.size() <= most) {
      out += line;
    } else if (explains) {
      out += line.substr(0, kHelpColumn);
      std::string rest;
      break_line(rest, line.substr(kHelpColumn), most - kHelpColumn, 0);
      out += for_lines(rest, [first = true](std::string& lines, std::string_view part) mutable {
        if (!first) lines.append(kHelpColumn, ' ');
        lines += part;
        first = false;
      });
    } else {
      break_line(out, line, most, indentation(line) + 2);
    }
  });
}

}  // namespace metro::cli
