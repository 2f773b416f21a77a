// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "io/posix.hpp"

namespace metro::io {

/// The documents of a journal's text, one a line after the header line. `end` is where the last
/// whole line ends: what follows is of a writer that was killed. Throws Error{kInput} for another
/// file's text, a newer version, or a line that is no JSON object or has changed since it was
/// written. Lines of version 1 have no digest and are taken as they are.
struct JournalText {
  std::vector<nlohmann::json> entries;
  std::size_t end = 0;
};
JournalText parse_journal(std::string_view text, std::string_view format, int version,
                          std::string_view file);

/// A file of JSON lines that outlives its writer: each entry is one write, on disk when `append`
/// returns. Opening it again gives what was written; a line cut short is dropped.
///
/// The first line is {"format": ..., "version": ...}. One writer at a time: a second one is
/// refused.
class Journal {
 public:
  /// Opens or creates. Throws Error{kInput} as parse_journal, and when the file cannot be opened.
  Journal(const std::filesystem::path& path, std::string_view format, int version);

  [[nodiscard]] const std::vector<nlohmann::json>& entries() const noexcept { return entries_; }

  /// `entry` is a JSON object with a member, on one line without the newline. Its digest goes with
  /// it.
  void append(std::string_view entry);

 private:
  void write_line(std::string_view line);
  [[noreturn]] void fail_errno(std::string_view what) const;

  std::filesystem::path path_;
  FileDescriptor file_;
  std::vector<nlohmann::json> entries_;
};

}  // namespace metro::io
