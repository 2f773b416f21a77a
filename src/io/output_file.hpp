// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>

#include "io/bytes.hpp"
#include "io/posix.hpp"

namespace metro::io {

/// Writes a file that appears whole or not at all: a temporary file beside it, then a rename.
///
/// A path that is already something else than a regular file (/dev/stdout, a pipe) is written
/// straight through; a symbolic link stays and its target is replaced. Destroyed without `commit`,
/// it removes the temporary file. Throws Error{kInput} naming the path as given.
class OutputFile {
 public:
  explicit OutputFile(const std::filesystem::path& path);
  OutputFile(const OutputFile&) = delete;
  OutputFile& operator=(const OutputFile&) = delete;
  ~OutputFile();

  void write(Bytes bytes);

  /// Brings the bytes to disk and the file to its name.
  void commit();

  /// Two files that are one thing: neither gets its name before the bytes of both are on disk, and
  /// the first is as it was before where the second cannot get its. Between the two renames a
  /// reader, or a crash, finds the new first beside the old second.
  static void commit_both(OutputFile& first, OutputFile& second);

 private:
  void finish();
  void take_name();
  [[noreturn]] void fail_errno(int error) const;

  std::filesystem::path path_;       ///< as given, for messages
  std::filesystem::path target_;     ///< what the rename replaces
  std::filesystem::path temporary_;  ///< empty when writing straight through
  FileDescriptor file_;
};

}  // namespace metro::io
