// SPDX-License-Identifier: Apache-2.0
#include "io/builtin_constants.hpp"

#include "io/constants_file.hpp"

namespace metro {
namespace io {

const GpuList& builtin_gpus() {
  static const GpuList gpus = parse_gpus(gpus_json(), "data/constants/gpus.json");
  return gpus;
}

const EngineList& builtin_engines() {
  static const EngineList engines = parse_engines(engines_json(), "data/constants/engines.json");
  return engines;
}

const KernelConstants& builtin_kernels() {
  static const KernelConstants kernels =
      parse_kernels(kernels_json(), "data/constants/kernels.json");
  return kernels;
}

}  // namespace io

// metro/gpu.hpp: the records and how to search them are core's, the list itself came from a file.
const GpuSpec* find_gpu(std::string_view name) noexcept { return io::builtin_gpus().find(name); }

const GpuSpec* find_gpu_of_device(std::string_view device) noexcept {
  return io::builtin_gpus().find_of_device(device);
}

std::vector<std::string_view> gpu_names() { return io::builtin_gpus().names(); }

}  // namespace metro
