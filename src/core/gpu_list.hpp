// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <vector>

#include "metro/gpu.hpp"

namespace metro {

/// GPUs and the names that they go by: a record that io fills.
struct GpuList {
  struct Entry {
    std::string name;
    GpuSpec spec{};  ///< its name is the one above
    std::vector<std::string> aliases{};
    std::string device{};  ///< the part of a driver's name for it that tells it apart
  };
  std::deque<Entry>
      gpus;  ///< entries stay where they are when the list moves: specs point to names

  GpuList() = default;
  GpuList(GpuList&&) noexcept = default;
  GpuList& operator=(GpuList&&) noexcept = default;
  GpuList(const GpuList&) = delete;
  GpuList& operator=(const GpuList&) = delete;
  ~GpuList() = default;

  /// The GPU of that name or alias: any case, '_' for '-', with or without "_sxm"; or nullptr.
  [[nodiscard]] const GpuSpec* find(std::string_view name) const noexcept;
  /// The GPU with the longest `device` in that text, or nullptr.
  [[nodiscard]] const GpuSpec* find_of_device(std::string_view device) const noexcept;
  /// Names, which live as long as the list does.
  [[nodiscard]] std::vector<std::string_view> names() const;
};

}  // namespace metro
