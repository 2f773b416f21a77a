// SPDX-License-Identifier: Apache-2.0
#include <cuda_runtime_api.h>
#include <fmt/format.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

#include "array.hpp"
#include "metro/cuda/router.hpp"
#include "metro/error.hpp"

namespace metro::python {
namespace {

/// A device pointer or a stream as Python hands it over.
using Address = std::uintptr_t;

template <typename T>
T* pointer(Address address) noexcept {
  return reinterpret_cast<T*>(address);  // NOLINT(performance-no-int-to-ptr)
}

LayerPlacement contiguous_layer(std::vector<std::int32_t> replica_to_expert, int num_experts,
                                int num_gpus) {
  LayerPlacement layer{num_experts, num_gpus, std::move(replica_to_expert), {}, {}, {}};
  layer.replica_to_gpu = contiguous_gpus(layer.num_replicas(), num_gpus);
  return layer;
}

/// A placement, or the engines' physical-to-logical map [layers, replicas].
Placement to_placement(nb::handle object, int num_gpus) {
  if (nb::isinstance<Placement>(object)) return nb::cast<Placement>(object);
  const AnyArray array = as_array(object, "replica_to_expert");
  require_dims(array, 2, "[layers, replicas]", "replica_to_expert");
  const std::vector<std::int32_t> experts = to_int32(array, "replica_to_expert");
  if (experts.empty()) throw nb::value_error("replica_to_expert is empty");
  if (num_gpus < 1) throw nb::value_error("num_gpus must be given with replica_to_expert");
  const std::int32_t last = *std::ranges::max_element(experts);
  if (last >= kMaxExperts) {
    throw Error(
        ErrorCode::kInput,
        fmt::format("replica_to_expert names expert {}, must be below {}", last, kMaxExperts));
  }
  Placement placement{last + 1, num_gpus, {}};
  const auto width = static_cast<std::ptrdiff_t>(array.shape(1));
  for (auto row = experts.begin(); row != experts.end(); row += width) {
    placement.layers.push_back(contiguous_layer({row, row + width}, last + 1, num_gpus));
  }
  placement.validate();
  return placement;
}

/// metro::cuda::Router by addresses: what tensors, streams and captured graphs come down to.
class PyCudaRouter {
 public:
  PyCudaRouter(nb::handle placement, int num_gpus, const std::string& policy, int max_tokens,
               int topk, int max_replicas, bool programmatic_launch)
      : PyCudaRouter(to_placement(placement, num_gpus),
                     {policy, max_tokens, topk, max_replicas, programmatic_launch}) {}

  void route(int layer, Address topk_ids, int dtype_bits, std::int64_t num_tokens, int topk,
             Address replica_ids, Address stream, Address num_valid_tokens,
             Address activated_per_gpu, Address max_activated, Address tokens_per_replica,
             bool accumulate_tokens) {
    cuda::RouteExtras extras;
    extras.num_valid_tokens = pointer<const std::int32_t>(num_valid_tokens);
    extras.activated_per_gpu = pointer<std::int32_t>(activated_per_gpu);
    extras.max_activated = pointer<std::int32_t>(max_activated);
    extras.tokens_per_replica = pointer<std::int32_t>(tokens_per_replica);
    extras.accumulate_tokens = accumulate_tokens;
    enqueue(layer, {topk_ids, dtype_bits, num_tokens, topk, replica_ids}, stream, extras);
  }

  void serve(int layer, Address topk_ids, int dtype_bits, std::int64_t num_tokens, int topk,
             Address replica_ids, Address stream, Address num_valid_tokens,
             Address expert_to_replicas, std::int64_t row_stride, Address num_replicas_of,
             Address load, int load_size, Address is_recording, Address is_live, Address faults,
             Address checksum) {
    for (const Address needed :
         {expert_to_replicas, num_replicas_of, load, is_recording, is_live, faults}) {
      if (needed == 0) throw nb::value_error("all maps but the checksum must be given");
    }
    const cuda::EngineMaps maps{pointer<const std::int64_t>(expert_to_replicas),
                                row_stride,
                                pointer<const std::int64_t>(num_replicas_of),
                                pointer<std::int32_t>(load),
                                load_size,
                                pointer<const bool>(is_recording),
                                pointer<const std::int32_t>(is_live),
                                pointer<std::int64_t>(faults),
                                pointer<std::int64_t>(checksum)};
    cuda::RouteExtras extras;
    extras.num_valid_tokens = pointer<const std::int32_t>(num_valid_tokens);
    extras.engine = &maps;
    enqueue(layer, {topk_ids, dtype_bits, num_tokens, topk, replica_ids}, stream, extras);
  }

  void update(int layer, nb::handle placement, Address stream) {
    const LayerPlacement next =
        nb::isinstance<LayerPlacement>(placement)
            ? nb::cast<LayerPlacement>(placement)
            : contiguous_layer(
                  to_int32(as_array(placement, "replica_to_expert"), "replica_to_expert"),
                  num_experts_, num_gpus_);
    const nb::gil_scoped_release release;
    router_.update(layer, next, pointer<CUstream_st>(stream));
  }

  [[nodiscard]] int num_layers() const noexcept { return num_layers_; }
  [[nodiscard]] int num_experts() const noexcept { return num_experts_; }
  [[nodiscard]] int num_gpus() const noexcept { return num_gpus_; }
  [[nodiscard]] int topk() const noexcept { return topk_; }
  [[nodiscard]] int max_tokens() const noexcept { return max_tokens_; }

 private:
  PyCudaRouter(const Placement& placement, const cuda::RouterOptions& options)
      : router_(placement, options),
        num_layers_(static_cast<int>(placement.layers.size())),
        num_experts_(placement.num_experts),
        num_gpus_(placement.num_gpus),
        topk_(options.topk),
        max_tokens_(options.max_tokens) {}

  /// A batch by addresses.
  struct Ids {
    Address topk_ids;
    int dtype_bits;
    std::int64_t num_tokens;
    int topk;
    Address replica_ids;
  };

  void enqueue(int layer, const Ids& ids, Address stream, const cuda::RouteExtras& extras) {
    if (ids.topk != topk_) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("topk is {}, the router was made for {}", ids.topk, topk_));
    }
    if (ids.num_tokens < 0 || ids.num_tokens > std::numeric_limits<int>::max()) {
      throw Error(ErrorCode::kUsage, fmt::format("num_tokens is {}", ids.num_tokens));
    }
    const auto rows = static_cast<int>(ids.num_tokens);
    auto* const on = pointer<CUstream_st>(stream);
    if (ids.dtype_bits == 32) {
      router_.route(layer, pointer<const std::int32_t>(ids.topk_ids), rows,
                    pointer<std::int32_t>(ids.replica_ids), on, extras);
    } else if (ids.dtype_bits == 64) {
      router_.route(layer, pointer<const std::int64_t>(ids.topk_ids), rows,
                    pointer<std::int64_t>(ids.replica_ids), on, extras);
    } else {
      throw Error(ErrorCode::kUsage,
                  fmt::format("dtype_bits is {}, must be 32 or 64", ids.dtype_bits));
    }
  }

  cuda::Router router_;
  int num_layers_;
  int num_experts_;
  int num_gpus_;
  int topk_;
  int max_tokens_;
};

}  // namespace

void bind_cuda_router(nb::module_& module) {
  module.def(
      "cuda_device_count",
      [] {
        int count = 0;
        if (cudaGetDeviceCount(&count) != cudaSuccess) {
          (void)cudaGetLastError();
          return 0;
        }
        return count;
      },
      "CUDA devices that this process can use; 0 without a driver.");

  // metro_moe.cuda.Router is this class with tensors.
  nb::class_<PyCudaRouter>(module, "CudaRouter")
      .def(
          nb::init<nb::handle, int, const std::string&, int, int, int, bool>(),
          nb::arg("placement"), nb::arg("num_gpus") = 0, nb::kw_only(),
          nb::arg("policy") = std::string(kDefaultPolicy), nb::arg("max_tokens") = 65536,
          nb::arg("topk"), nb::arg("max_replicas") = 0, nb::arg("programmatic_launch") = false,
          nb::sig("def __init__(self, placement: Placement | numpy.typing.ArrayLike, "
                  "num_gpus: int = 0, *, policy: str = 'optimal', max_tokens: int = 65536, "
                  "topk: int, max_replicas: int = 0, programmatic_launch: bool = False) -> None"),
          "`placement` is a Placement, or an engine's physical-to-logical map [layers, replicas] "
          "on "
          "the host,\nwith `num_gpus` that share the slots equally. Belongs to the current device.")
      .def("route", &PyCudaRouter::route, nb::arg("layer"), nb::arg("topk_ids_ptr"),
           nb::arg("dtype_bits"), nb::arg("num_tokens"), nb::arg("topk"),
           nb::arg("replica_ids_ptr"), nb::arg("stream") = 0, nb::arg("num_valid_ptr") = 0,
           nb::kw_only(), nb::arg("activated_per_gpu_ptr") = 0, nb::arg("max_activated_ptr") = 0,
           nb::arg("tokens_per_replica_ptr") = 0, nb::arg("accumulate_tokens") = false,
           "Enqueues the routing of device ids [num_tokens, topk] of 32 or 64 bits in `stream`.\n\n"
           "Addresses are integers, 0 is none; `replica_ids_ptr` may be `topk_ids_ptr`. "
           "`num_valid_ptr` is an int32\non the device: rows beyond it become -1. No "
           "synchronisation, no allocation: may be captured in a CUDA graph.")
      .def("serve", &PyCudaRouter::serve, nb::arg("layer"), nb::arg("topk_ids_ptr"),
           nb::arg("dtype_bits"), nb::arg("num_tokens"), nb::arg("topk"),
           nb::arg("replica_ids_ptr"), nb::arg("stream") = 0, nb::arg("num_valid_ptr") = 0,
           nb::kw_only(), nb::arg("expert_to_replicas_ptr"), nb::arg("row_stride"),
           nb::arg("num_replicas_of_ptr"), nb::arg("load_ptr"), nb::arg("load_size"),
           nb::arg("is_recording_ptr"), nb::arg("is_live_ptr"), nb::arg("faults_ptr"),
           nb::arg("checksum_ptr") = 0,
           "As `route`, by an engine's own maps (metro/cuda/engine_maps.hpp), in the same one "
           "kernel: records the\nload, and serves by the engine's rule where its maps and the "
           "router's differ.")
      .def("update", &PyCudaRouter::update, nb::arg("layer"), nb::arg("placement"),
           nb::arg("stream") = 0,
           nb::sig("def update(self, layer: int, "
                   "placement: LayerPlacement | numpy.typing.ArrayLike, stream: int = 0) -> None"),
           "Replaces a layer's placement (or [replicas] experts on the host) for later work in "
           "`stream`, graph\nreplays included. Not to be captured.")
      .def_prop_ro("num_layers", &PyCudaRouter::num_layers)
      .def_prop_ro("num_experts", &PyCudaRouter::num_experts)
      .def_prop_ro("num_gpus", &PyCudaRouter::num_gpus)
      .def_prop_ro("topk", &PyCudaRouter::topk)
      .def_prop_ro("max_tokens", &PyCudaRouter::max_tokens);
}

}  // namespace metro::python
