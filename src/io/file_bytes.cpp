// SPDX-License-Identifier: Apache-2.0
#include "io/file_bytes.hpp"

#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <cstdint>

#include "io/fail.hpp"
#include "io/posix.hpp"

namespace metro::io {
namespace {

/// What a pipe may give: it has no size that could be checked beforehand.
constexpr std::size_t kMaxPiped = std::size_t{1} << 30;

std::vector<std::byte> read_to_end(const FileDescriptor& file, const std::filesystem::path& path) {
  std::vector<std::byte> all;
  for (;;) {
    const std::size_t filled = all.size();
    if (filled > kMaxPiped) {
      fail(path.string(), "is no regular file and gives more than 1 GiB, the most that is read");
    }
    const std::size_t more = std::max<std::size_t>(filled, std::size_t{1} << 16);
    all.resize(std::min(filled + more, kMaxPiped + 1));
    const std::size_t got = read_some(file, std::span(all).subspan(filled), path);
    all.resize(filled + got);
    if (got == 0) return all;
  }
}

}  // namespace

FileBytes::FileBytes(const std::filesystem::path& path) {
  const FileDescriptor file = open_input(path);
  struct stat status{};
  const bool is_known = ::fstat(file.get(), &status) == 0;
  // /dev/zero never ends.
  if (is_known && (S_ISCHR(status.st_mode) || S_ISBLK(status.st_mode))) {
    fail(path.string(), "is a device, must be a file or a pipe");
  }
  if (is_known && S_ISREG(status.st_mode) && status.st_size > 0 &&
      static_cast<std::uintmax_t>(status.st_size) <= SIZE_MAX) {
    const auto size = static_cast<std::size_t>(status.st_size);
    void* mapped = ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, file.get(), 0);
    if (mapped != MAP_FAILED) {
      mapped_ = mapped;
      bytes_ = {static_cast<const std::byte*>(mapped), size};
      return;
    }
  }
  read_ = read_to_end(file, path);
  if (read_.empty()) fail(path.string(), "is empty");
  bytes_ = read_;
}

FileBytes::~FileBytes() {
  if (mapped_ != nullptr) ::munmap(mapped_, bytes_.size());
}

}  // namespace metro::io
