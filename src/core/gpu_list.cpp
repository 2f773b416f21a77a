// SPDX-License-Identifier: Apache-2.0
#include "core/gpu_list.hpp"

#include <algorithm>

#include "core/lower_case.hpp"

namespace metro {
namespace {

bool is_name(std::string_view a, std::string_view b) noexcept {
  return std::ranges::equal(a, b, [](char x, char y) {
    return (x == '_' ? '-' : lower_case(x)) == (y == '_' ? '-' : lower_case(y));
  });
}

}  // namespace

const GpuSpec* GpuList::find(std::string_view name) const noexcept {
  for (const std::string_view suffix : {"_sxm", "-sxm"}) {
    if (name.size() > suffix.size() &&
        equal_ignoring_case(name.substr(name.size() - suffix.size()), suffix)) {
      name.remove_suffix(suffix.size());
      break;
    }
  }
  for (const Entry& gpu : gpus) {
    if (is_name(gpu.name, name)) return &gpu.spec;
    for (const std::string& alias : gpu.aliases) {
      if (is_name(alias, name)) return &gpu.spec;
    }
  }
  return nullptr;
}

const GpuSpec* GpuList::find_of_device(std::string_view device) const noexcept {
  const Entry* longest = nullptr;  // GB200 is no B200, H200 no H20
  for (const Entry& gpu : gpus) {
    const bool is_named = device.find(gpu.device) != std::string_view::npos;
    if (is_named && (longest == nullptr || gpu.device.size() > longest->device.size())) {
      longest = &gpu;
    }
  }
  return longest == nullptr ? nullptr : &longest->spec;
}

std::vector<std::string_view> GpuList::names() const {
  std::vector<std::string_view> names;
  for (const Entry& gpu : gpus) names.emplace_back(gpu.name);
  return names;
}

}  // namespace metro
