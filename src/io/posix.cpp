// SPDX-License-Identifier: Apache-2.0
#include "io/posix.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include "io/fail.hpp"

namespace metro::io {

FileDescriptor::~FileDescriptor() {
  if (fd_ >= 0) ::close(fd_);
}

bool FileDescriptor::close() noexcept { return ::close(std::exchange(fd_, -1)) == 0; }

std::string errno_text(int error) {
  return std::error_code(error, std::generic_category()).message();
}

FileDescriptor open_input(const std::filesystem::path& path) {
  int fd = -1;
  do {
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) fail(path.string(), fmt::format("cannot be read: {}", errno_text(errno)));
  FileDescriptor file(fd);
  struct stat status{};
  if (::fstat(fd, &status) == 0 && S_ISDIR(status.st_mode)) {
    fail(path.string(), "is a directory, must be a file");
  }
  return file;
}

std::size_t read_some(const FileDescriptor& file, std::span<std::byte> out,
                      const std::filesystem::path& path) {
  for (;;) {
    const ssize_t got = ::read(file.get(), out.data(), out.size());
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) fail(path.string(), fmt::format("cannot be read: {}", errno_text(errno)));
  }
}

}  // namespace metro::io
