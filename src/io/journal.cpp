// SPDX-License-Identifier: Apache-2.0
#include "io/journal.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <fstream>
#include <sstream>

#include "io/bytes.hpp"
#include "io/csv_row.hpp"
#include "io/fail.hpp"
#include "io/file_bytes.hpp"
#include "io/json_reader.hpp"
#include "io/sha256.hpp"

namespace metro::io {
namespace {

std::string header_line(std::string_view format, int version) {
  return fmt::format("{{\"format\": \"{}\", \"version\": {}}}\n", format, version);
}

/// The first version whose lines carry digests.
constexpr std::int64_t kDigestsSince = 2;

// A line is kDigestBegin, the digest, kDigestEnd, then the entry without its opening brace; the
// digest is of the entry with it.
constexpr std::string_view kDigestBegin = "{\"sha256\":\"";
constexpr std::string_view kDigestEnd = "\",";
constexpr std::size_t kDigestSize = 64;

/// Of "{" and what follows it.
std::string digest_of(std::string_view after_brace) {
  Sha256 hash;
  hash.update(text_bytes("{"));
  hash.update(text_bytes(after_brace));
  return hash.finish();
}

/// Refuses a line whose digest is not that of its entry, and one without where it must have one.
void check_digest(std::string_view line, bool required, std::string_view place) {
  std::string_view rest = line;
  const bool has_digest = rest.starts_with(kDigestBegin);
  if (!has_digest && !required) return;
  rest.remove_prefix(std::min(rest.size(), kDigestBegin.size()));
  const std::string_view digest = rest.substr(0, kDigestSize);
  rest.remove_prefix(digest.size());
  if (has_digest && rest.starts_with(kDigestEnd) &&
      digest == digest_of(rest.substr(kDigestEnd.size()))) {
    return;
  }
  fail(place, "is not as it was written (its sha256 differs), remove the line to run it again");
}

/// Who holds the lock on a file, as Linux tells it: "process 123", or words where it does not.
std::string lock_holder(const FileDescriptor& file) {
  struct stat status{};
  std::ifstream locks("/proc/locks");  // "1: FLOCK  ADVISORY  WRITE 123 08:01:4567 0 EOF"
  if (::fstat(file.get(), &status) == 0) {
    const std::string inode = fmt::format(":{}", status.st_ino);
    for (std::string line; std::getline(locks, line);) {
      std::istringstream words(line);
      std::string number;
      std::string kind;
      std::string strength;
      std::string access;
      std::string process;
      std::string place;
      words >> number >> kind >> strength >> access >> process >> place;
      if (kind == "FLOCK" && place.ends_with(inode)) return "process " + process;
    }
  }
  return "another process";
}

}  // namespace

JournalText parse_journal(std::string_view text, std::string_view format, int version,
                          std::string_view file) {
  JournalText journal;
  journal.end = text.rfind('\n') + 1;  // npos + 1 is 0
  if (journal.end == 0) {
    // A header cut short may be written again; any other text is someone's file.
    for (int v = 1; v <= version; ++v) {
      if (header_line(format, v).starts_with(text)) return journal;
    }
    fail(file, "is no journal of this kind");
  }
  bool has_digests = false;
  for (Lines lines(text.substr(0, journal.end - 1)); !lines.done(); lines.next()) {
    const std::string place = fmt::format("{}: line {}", file, lines.number());
    if (lines.number() > 1) check_digest(lines.line(), has_digests, place);
    nlohmann::json document = parse_json(lines.line(), place);
    const JsonRef root(document, place);
    if (!document.is_object()) root.reject("an object");
    if (lines.number() == 1) {
      check_format(root, format, version, true);
      has_digests = root.value()["version"].get<std::int64_t>() >= kDigestsSince;
    } else {
      document.erase("sha256");
      journal.entries.push_back(std::move(document));
    }
  }
  return journal;
}

Journal::Journal(const std::filesystem::path& path, std::string_view format, int version)
    : path_(path) {
  file_ = FileDescriptor(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0666));
  if (file_.get() < 0) fail_errno("cannot be opened for writing");
  if (::flock(file_.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) fail_errno("cannot be locked");
    fail(path_.string(),
         fmt::format("is being written by {}, one run at a time may", lock_holder(file_)));
  }
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

void Journal::append(std::string_view entry) {
  const std::string_view after_brace = entry.substr(1);
  write_line(
      fmt::format("{}{}{}{}\n", kDigestBegin, digest_of(after_brace), kDigestEnd, after_brace));
}

void Journal::write_line(std::string_view line) {
  const off_t begin = ::lseek(file_.get(), 0, SEEK_END);
  while (!line.empty()) {
    const ssize_t written = ::write(file_.get(), line.data(), line.size());
    if (written >= 0) {
      line.remove_prefix(static_cast<std::size_t>(written));
    } else if (errno != EINTR) {
      const int error = errno;
      // What another thread still appends must not stand behind part of a line.
      static_cast<void>(::ftruncate(file_.get(), begin) == 0);
      errno = error;
      fail_errno("cannot be written");
    }
  }
  if (::fdatasync(file_.get()) != 0) fail_errno("cannot be written");
}

void Journal::fail_errno(std::string_view what) const {
  fail(path_.string(), fmt::format("{}: {}", what, errno_text(errno)));
}

}  // namespace metro::io
