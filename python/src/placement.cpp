// SPDX-License-Identifier: Apache-2.0
#include "metro/placement.hpp"

#include <fmt/format.h>
#include <nanobind/operators.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <filesystem>
#include <optional>

#include "array.hpp"
#include "metro/homes.hpp"
#include "metro/io.hpp"

namespace metro::python {
namespace {

std::vector<std::int32_t> indices(nb::handle object, const char* name) {
  const AnyArray array = as_array(object, name);
  require_dims(array, 1, "one-dimensional", name);
  return to_int32(array, name);
}

void make_layer(LayerPlacement* self, nb::handle replica_to_expert, int num_experts, int num_gpus,
                nb::handle replica_to_gpu, nb::handle home, nb::handle shares) {
  LayerPlacement layer{num_experts, num_gpus, {}, {}, {}, {}};
  layer.replica_to_expert = indices(replica_to_expert, "replica_to_expert");
  layer.replica_to_gpu = replica_to_gpu.is_none() ? contiguous_gpus(layer.num_replicas(), num_gpus)
                                                  : indices(replica_to_gpu, "replica_to_gpu");
  if (!home.is_none()) layer.home = indices(home, "home");
  if (!shares.is_none()) {
    const AnyArray array = as_array(shares, "shares");
    require_dims(array, 1, "one-dimensional", "shares");
    layer.shares = to_double(array, "shares");
  }
  layer.validate();
  new (self) LayerPlacement(std::move(layer));
}

void make_placement(Placement* self, std::vector<LayerPlacement> layers, int shards) {
  if (layers.empty()) throw nb::value_error("layers is empty, must have a LayerPlacement");
  Placement placement{layers.front().num_experts, layers.front().num_gpus, std::move(layers),
                      shards};
  placement.validate();
  new (self) Placement(std::move(placement));
}

template <typename T>
auto view_member(std::vector<T> LayerPlacement::* member) {
  return [member](nb::handle self) {
    return view_of(nb::cast<const LayerPlacement&>(self).*member, self);
  };
}

/// What is left out is None, as in the constructor.
template <typename T>
auto view_optional(std::vector<T> LayerPlacement::* member) {
  return [member](nb::handle self) -> std::optional<NumpyArray<const T>> {
    const std::vector<T>& values = nb::cast<const LayerPlacement&>(self).*member;
    if (values.empty()) return std::nullopt;
    return view_of(values, self);
  };
}

nb::tuple layer_state(nb::handle self) {
  return nb::make_tuple(self.attr("replica_to_expert"), self.attr("num_experts"),
                        self.attr("num_gpus"), self.attr("replica_to_gpu"), self.attr("home"),
                        self.attr("shares"));
}

void bind_layer(nb::module_& module) {
  nb::class_<LayerPlacement>(
      module, "LayerPlacement",
      "Where the replicas of one MoE layer's experts live. Immutable; checked when it is made.\n\n"
      "A replica is a physical slot, numbered from 0 over all GPUs. Arrays are read-only views.")
      .def(
          "__init__", &make_layer, nb::arg("replica_to_expert"), nb::arg("num_experts"),
          nb::arg("num_gpus"), nb::kw_only(), nb::arg("replica_to_gpu") = nb::none(),
          nb::arg("home") = nb::none(), nb::arg("shares") = nb::none(),
          nb::sig("def __init__(self, replica_to_expert: numpy.typing.ArrayLike, num_experts: int, "
                  "num_gpus: int, *, replica_to_gpu: numpy.typing.ArrayLike | None = None, "
                  "home: numpy.typing.ArrayLike | None = None, "
                  "shares: numpy.typing.ArrayLike | None = None) -> None"),
          "Without `replica_to_gpu` the GPUs share the slots equally, in order; without `home` "
          "they are exact, see `homes`; without `shares` they are equal.")
      .def_ro("num_experts", &LayerPlacement::num_experts)
      .def_ro("num_gpus", &LayerPlacement::num_gpus)
      .def_prop_ro("num_replicas", &LayerPlacement::num_replicas)
      .def_prop_ro("replica_to_expert", view_member(&LayerPlacement::replica_to_expert))
      .def_prop_ro("replica_to_gpu", view_member(&LayerPlacement::replica_to_gpu))
      .def_prop_ro("home", view_optional(&LayerPlacement::home), "[experts] slot, or None")
      .def(
          "homes", [](const LayerPlacement& self) { return to_numpy(find_homes(self)); },
          nb::sig("def homes(self) -> numpy.typing.NDArray[numpy.int32]"),
          "[experts] the slot that serves each expert under policy `home`: `home` where it is "
          "given, else as few\nexperts on the fullest GPU as the replicas allow, by the fixed rule "
          "of docs/formats.md.")
      .def_prop_ro("shares", view_optional(&LayerPlacement::shares), "[replicas] weight, or None")
      .def(nb::self == nb::self, nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__reduce__",
           [](nb::handle self) {
             const nb::object make = nb::module_::import_("metro_moe.pickling").attr("make_layer");
             return nb::make_tuple(make, layer_state(self));
           })
      .def("__repr__", [](const LayerPlacement& layer) {
        return fmt::format("LayerPlacement({} experts in {} replicas on {} GPUs)",
                           layer.num_experts, layer.num_replicas(), layer.num_gpus);
      });
}

}  // namespace

void bind_placement(nb::module_& module) {
  bind_layer(module);
  nb::class_<Placement>(module, "Placement",
                        "The placements of all MoE layers of a model. Immutable.")
      .def("__init__", &make_placement, nb::arg("layers"), nb::kw_only(), nb::arg("shards") = 1,
           "Layers must agree on experts and GPUs.")
      .def_ro("num_experts", &Placement::num_experts)
      .def_ro("num_gpus", &Placement::num_gpus, "Where experts are sharded: groups of GPUs.")
      .def_ro("shards", &Placement::shards, "GPUs that share each replica.")
      .def_prop_ro(
          "layers", [](const Placement& self) -> const auto& { return self.layers; },
          nb::rv_policy::reference_internal)
      .def(nb::self == nb::self, nb::sig("def __eq__(self, other: object, /) -> bool"))
      .def("__reduce__",
           [](nb::handle self) {
             const nb::object make =
                 nb::module_::import_("metro_moe.pickling").attr("make_placement");
             return nb::make_tuple(make, nb::make_tuple(self.attr("layers"), self.attr("shards")));
           })
      .def("__repr__", [](const Placement& placement) {
        return fmt::format("Placement({} layers of {} experts on {} GPUs)", placement.layers.size(),
                           placement.num_experts, placement.num_gpus);
      });

  module.def("read_placement", &io::read_placement, nb::arg("path"),
             nb::call_guard<nb::gil_scoped_release>(), "Reads a placement file (JSON).");
  module.def(
      "write_placement",
      [](const Placement& placement, const std::filesystem::path& path) {
        io::write_file(path, io::format_placement(placement));
      },
      nb::arg("placement"), nb::arg("path"), nb::call_guard<nb::gil_scoped_release>(),
      "Writes a placement file; it appears whole, by one atomic rename.");
}

}  // namespace metro::python
