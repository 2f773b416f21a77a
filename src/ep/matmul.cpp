// SPDX-License-Identifier: Apache-2.0
#include "ep/matmul.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <string>

#include "ep/matmul_kernels.hpp"
#include "metro/ep/moe_layer.hpp"
#include "metro/error.hpp"

namespace metro::ep {
namespace {

bool all_types(DataType type) { return type != DataType::kFp4; }

constexpr MatmulInfo kKernels[] = {
#if METRO_HAVE_ONEDNN
    {"onednn", "oneDNN's matmul; bf16 where the CPU has it, no fp8", onednn_supports, make_onednn},
#endif
    {"plain", "loops, for every type and machine", all_types, make_plain},
};

}  // namespace

std::span<const MatmulInfo> matmul_kernels() { return kKernels; }

std::span<const std::string_view> cpu_kernels() {
  static const auto names = [] {
    std::array<std::string_view, std::size(kKernels)> all;
    std::ranges::transform(kKernels, all.begin(), &MatmulInfo::name);
    return all;
  }();
  return names;
}

const MatmulInfo* find_matmul(std::string_view name) {
  const auto* const found = std::ranges::find(kKernels, name, &MatmulInfo::name);
  return found == std::end(kKernels) ? nullptr : found;
}

std::string_view best_matmul(DataType type) {
  return std::ranges::find_if(kKernels, [&](const auto& k) { return k.supports(type); })->name;
}

std::unique_ptr<Matmul> make_matmul(std::string_view name, DataType type) {
  const MatmulInfo* info = find_matmul(name.empty() ? best_matmul(type) : name);
  if (info == nullptr) {
    std::string names;
    for (const MatmulInfo& kernel : kKernels) {
      names += fmt::format("{}{}", names.empty() ? "" : ", ", kernel.name);
    }
    throw Error(ErrorCode::kUsage, fmt::format("unknown kernel '{}', use one of {}", name, names));
  }
  if (!info->supports(type)) {
    throw Error(ErrorCode::kDevice, fmt::format("kernel {} has no {} matmul on this CPU, use {}",
                                                name, data_type_name(type), best_matmul(type)));
  }
  return info->make();
}

}  // namespace metro::ep
