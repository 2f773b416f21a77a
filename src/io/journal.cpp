// SPDX-License-Identifier: Apache-2.0
#include "io/journal.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

#include "io/bytes.hpp"
#include "io/csv_row.hpp"
#include "io/fail.hpp"
#include "io/file_bytes.hpp"
#include "io/json_reader.hpp"

namespace metro::io {
namespace {

std::string header_line(std::string_view format, int version) {
  return fmt::format("{{\"format\": \"{}\", \"version\": {}}}\n", format, version);
}

}  // namespace

JournalText parse_journal(std::string_view text, std::string_view format, int version,
                          std::string_view file) {
  JournalText journal;
  journal.end = text.rfind('\n') + 1;  // npos + 1 is 0
  if (journal.end == 0) {
    // A header cut short may be written again; any other text is someone's file.
    if (!header_line(format, version).starts_with(text)) fail(file, "is no journal of this kind");
    return journal;
  }
  for (Lines lines(text.substr(0, journal.end - 1)); !lines.done(); lines.next()) {
    const std::string place = fmt::format("{}: line {}", file, lines.number());
    nlohmann::json document = parse_json(lines.line(), place);
    const JsonRef root(document, place);
    if (!document.is_object()) root.reject("an object");
    if (lines.number() == 1) {
      check_format(root, format, version, true);
    } else {
      journal.entries.push_back(std::move(document));
    }
  }
  return journal;
}

Journal::Journal(const std::filesystem::path& path, std::string_view format, int version)
    : path_(path) {
  file_ = FileDescriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (file_.get() < 0) fail_errno("cannot be opened for writing");
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) fail_errno("cannot be locked");
  struct stat status{};
  if (::fstat(file_.get(), &status) != 0 || !S_ISREG(status.st_mode)) {
    fail(path_.string(), "is no regular file, must be one to resume from");
  }
  if (status.st_size > 0) {
    const FileBytes bytes(path);
    JournalText text = parse_journal(as_text(bytes.bytes()), format, version, path.string());
    if (::ftruncate(file_.get(), static_cast<off_t>(text.end)) != 0) {
      fail_errno("cannot be written");
    }
    entries_ = std::move(text.entries);
    if (text.end > 0) return;
  }
  write_line(header_line(format, version));
}

void Journal::append(std::string_view entry) { write_line(fmt::format("{}\n", entry)); }

void Journal::write_line(std::string_view line) {
  while (!line.empty()) {
    const ssize_t written = ::write(file_.get(), line.data(), line.size());
    if (written >= 0) {
      line.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno != EINTR) {
      fail_errno("cannot be written");
    }
  }
  if (::fdatasync(file_.get()) != 0) fail_errno("cannot be written");
}

void Journal::fail_errno(std::string_view what) const {
  fail(path_.string(), fmt::format("{}: {}", what, errno_text(errno)));
}

}  // namespace metro::io
