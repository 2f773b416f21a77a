// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <vector>

#include "io/bytes.hpp"

namespace metro::io {

/// The bytes of a file: mapped where the system can; a pipe is read into memory, up to
/// 1 GiB.
///
/// Throws Error{kInput} when the file is missing, unreadable, a directory, a device or empty. A
/// mapped file must not be cut short while it is in use; replace files by rename, as `write_file`
/// does.
class FileBytes {
 public:
  explicit FileBytes(const std::filesystem::path& path);
  FileBytes(const FileBytes&) = delete;
  FileBytes& operator=(const FileBytes&) = delete;
  ~FileBytes();

  [[nodiscard]] Bytes bytes() const noexcept { return bytes_; }

 private:
  std::vector<std::byte> read_;
  void* mapped_ = nullptr;
  Bytes bytes_;
};

}  // namespace metro::io
