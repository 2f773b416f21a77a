// SPDX-License-Identifier: Apache-2.0
#include "metro/gpu.hpp"

#include <array>

#include "core/lower_case.hpp"

namespace metro {
namespace {

constexpr double kGiga = 1e9;
constexpr double kTera = 1e12;

// clang-format off
// Datasheets, dense rates; memory, TB/s, TFLOPS bf16 / fp8 / fp4, link GB/s, domain, network GB/s.
constexpr std::array kGpus = {
    GpuSpec{"A100-40G", 40 * kGiga, 1.555 * kTera, 312 * kTera, 0, 0, 300 * kGiga, 8, 25 * kGiga},
    GpuSpec{"A100", 80 * kGiga, 2.039 * kTera, 312 * kTera, 0, 0, 300 * kGiga, 8, 25 * kGiga},
    GpuSpec{"H100", 80 * kGiga, 3.35 * kTera, 989 * kTera, 1979 * kTera, 0, 450 * kGiga, 8, 50 * kGiga},
    GpuSpec{"H200", 141 * kGiga, 4.8 * kTera, 989 * kTera, 1979 * kTera, 0, 450 * kGiga, 8, 50 * kGiga},
    GpuSpec{"H800", 80 * kGiga, 3.35 * kTera, 989 * kTera, 1979 * kTera, 0, 200 * kGiga, 8, 50 * kGiga},
    GpuSpec{"H20", 96 * kGiga, 4.0 * kTera, 148 * kTera, 296 * kTera, 0, 450 * kGiga, 8, 50 * kGiga},
    GpuSpec{"B200", 180 * kGiga, 8.0 * kTera, 2250 * kTera, 4500 * kTera, 9000 * kTera, 900 * kGiga, 8, 100 * kGiga},
    GpuSpec{"B300", 268 * kGiga, 8.0 * kTera, 2250 * kTera, 4500 * kTera, 13500 * kTera, 900 * kGiga, 8, 100 * kGiga},
    GpuSpec{"GB200", 192 * kGiga, 8.0 * kTera, 2500 * kTera, 5000 * kTera, 10000 * kTera, 900 * kGiga, 72, 100 * kGiga},
    GpuSpec{"MI300X", 192 * kGiga, 5.3 * kTera, 1307 * kTera, 2615 * kTera, 0, 448 * kGiga, 8, 50 * kGiga},
};
// clang-format on

struct Alias {
  std::string_view name;
  std::string_view gpu;
};

constexpr std::array kAliases = {Alias{"A100-80G", "A100"}, Alias{"GB200-NVL72", "GB200"}};

}  // namespace

double GpuSpec::flops(DataType weights) const noexcept {
  if (weights == DataType::kFp4 && fp4_flops > 0) return fp4_flops;
  // fp4 weights on a GPU without fp4 units meet bf16 activations.
  if (weights == DataType::kFp8 && fp8_flops > 0) return fp8_flops;
  return weights == DataType::kFloat32 ? bf16_flops / 2 : bf16_flops;
}

const GpuSpec* find_gpu(std::string_view name) noexcept {
  for (const std::string_view suffix : {"_sxm", "-sxm"}) {
    if (name.size() > suffix.size() &&
        equal_ignoring_case(name.substr(name.size() - suffix.size()), suffix)) {
      name.remove_suffix(suffix.size());
      break;
    }
  }
  const auto same = [](char a, char b) {
    return (a == '_' ? '-' : lower_case(a)) == (b == '_' ? '-' : lower_case(b));
  };
  for (const Alias& alias : kAliases) {
    if (std::ranges::equal(alias.name, name, same)) name = alias.gpu;
  }
  for (const GpuSpec& gpu : kGpus) {
    if (std::ranges::equal(gpu.name, name, same)) return &gpu;
  }
  return nullptr;
}

const GpuSpec* find_gpu_of_device(std::string_view device) noexcept {
  const GpuSpec* longest = nullptr;  // GB200 is no B200, H200 no H20
  for (const GpuSpec& gpu : kGpus) {
    const bool is_named = device.find(gpu.name) != std::string_view::npos;
    if (is_named && (longest == nullptr || gpu.name.size() > longest->name.size())) longest = &gpu;
  }
  return longest;
}

std::vector<std::string_view> gpu_names() {
  std::vector<std::string_view> names;
  for (const GpuSpec& gpu : kGpus) names.push_back(gpu.name);
  return names;
}

}  // namespace metro
