// SPDX-License-Identifier: Apache-2.0
#include "io/output_file.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <system_error>

#include "io/fail.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"

namespace metro::io {
namespace {

namespace fs = std::filesystem;

/// Opened by name, a redirected stdout would be written from its start again: share its offset.
FileDescriptor open_standard_stream(const fs::path& path) {
  if (path == "/dev/stdout") return FileDescriptor(::dup(STDOUT_FILENO));
  if (path == "/dev/stderr") return FileDescriptor(::dup(STDERR_FILENO));
  return {};
}

/// A name in `folder` that no other writer uses; short, so that any valid file name has one beside
/// it.
fs::path temporary_name(const fs::path& folder) {
  static std::atomic<unsigned> counter{0};
  return folder / fmt::format(".metro-{}-{}.tmp", ::getpid(), counter.fetch_add(1));
}

}  // namespace

OutputFile::OutputFile(const fs::path& path) : path_(path), target_(path) {
  file_ = open_standard_stream(path);
  if (file_.get() >= 0) return;
  std::error_code error;
  const fs::file_status status = fs::status(path, error);
  if (fs::is_directory(status)) fail(path.string(), "is a directory, must be a file to write");
  if (fs::exists(status) && !fs::is_regular_file(status)) {
    file_ = FileDescriptor(::open(path.c_str(), O_WRONLY | O_CLOEXEC));
    if (file_.get() < 0) fail_errno(errno);
    return;
  }
  if (fs::is_regular_file(status) && fs::is_symlink(path, error))
    target_ = fs::canonical(path, error);
  constexpr int kAttempts = 100;  // a crashed run with our process id may have left its files
  for (int attempt = 0; attempt < kAttempts && file_.get() < 0; ++attempt) {
    temporary_ = temporary_name(target_.parent_path());
    file_ =
        FileDescriptor(::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666));
    if (file_.get() < 0 && errno != EEXIST && errno != EINTR) break;
  }
  if (file_.get() < 0) {
    temporary_.clear();
    fail_errno(errno);
  }
}

OutputFile::~OutputFile() {
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

void OutputFile::write(Bytes bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(file_.get(), bytes.data(), bytes.size());
    if (written >= 0) {
      bytes = bytes.subspan(static_cast<std::size_t>(written));
    } else if (errno != EINTR) {
      fail_errno(errno);
    }
  }
}

void OutputFile::commit() {
  finish();
  take_name();
}

void OutputFile::finish() {
  if (!temporary_.empty() && ::fsync(file_.get()) != 0) fail_errno(errno);
  if (!file_.close()) fail_errno(errno);
}

void OutputFile::take_name() {
  if (temporary_.empty()) return;
  if (std::rename(temporary_.c_str(), target_.c_str()) != 0) fail_errno(errno);
  temporary_.clear();
}

void OutputFile::commit_both(OutputFile& first, OutputFile& second) {
  first.finish();
  second.finish();
  // A second name for the old file; where there is none, or the file system has no links, none.
  const fs::path old = temporary_name(first.target_.parent_path());
  const bool by_rename = !first.temporary_.empty();
  const bool is_kept = by_rename && ::link(first.target_.c_str(), old.c_str()) == 0;
  const bool is_new = by_rename && !is_kept && errno == ENOENT;
  try {
    first.take_name();
    second.take_name();
  } catch (const Error&) {
    if (is_kept) {
      static_cast<void>(std::rename(old.c_str(), first.target_.c_str()));
      ::unlink(old.c_str());  // rename leaves both names of one file
    } else if (is_new) {
      ::unlink(first.target_.c_str());
    }
    throw;
  }
  if (is_kept) ::unlink(old.c_str());
}

void OutputFile::fail_errno(int error) const {
  fail(path_.string(), fmt::format("cannot be written: {}", errno_text(error)));
}

void write_file(const fs::path& path, std::string_view text) {
  OutputFile file(path);
  file.write(text_bytes(text));
  file.commit();
}

}  // namespace metro::io
