// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>
#include <string>
#include <utility>

namespace metro::io {

/// Owns an open file descriptor; -1 when empty.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) noexcept : fd_(fd) {}
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~FileDescriptor();

  [[nodiscard]] int get() const noexcept { return fd_; }

  /// Closes now and says whether that worked: some file systems report a failed write only here.
  bool close() noexcept;

 private:
  int fd_ = -1;
};

/// The system's words for an errno value.
std::string errno_text(int error);

/// Opens for reading. Throws Error{kInput} when the file is missing, unreadable or a directory.
FileDescriptor open_input(const std::filesystem::path& path);

/// As read(2), tried again when a signal interrupts it. Throws Error{kInput} naming `path`.
std::size_t read_some(const FileDescriptor& file, std::span<std::byte> out,
                      const std::filesystem::path& path);

}  // namespace metro::io
