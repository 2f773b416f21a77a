// SPDX-License-Identifier: Apache-2.0
#include "metro/placer.hpp"

#include <fmt/format.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <string>
#include <vector>

#include "array.hpp"
#include "metro/error.hpp"
#include "metro/homes.hpp"
#include "metro/io.hpp"
#include "metro/policy_names.hpp"

namespace metro::python {
namespace {

Loads make_loads(nb::handle object) {
  const AnyArray array = as_array(object, "loads");
  require_dims(array, 2, "[layers, experts]", "loads");
  if (array.shape(0) < 1 || array.shape(1) < 1 || array.shape(1) > std::size_t{kMaxExperts}) {
    throw Error(ErrorCode::kInput,
                fmt::format("loads have shape [{}, {}], must have a layer and 1..{} experts",
                            array.shape(0), array.shape(1), kMaxExperts));
  }
  return {static_cast<int>(array.shape(0)), static_cast<int>(array.shape(1)),
          to_double(array, "loads")};
}

std::vector<double> layer_load(nb::handle object) {
  const AnyArray array = as_array(object, "load");
  require_dims(array, 1, "[experts]", "load");
  return to_double(array, "load");
}

Placement place_loads(nb::handle loads, int num_replicas, int num_gpus,
                      const std::string& algorithm, int num_groups, int num_nodes) {
  const Loads values = make_loads(loads);
  const nb::gil_scoped_release release;
  return place(values, {num_replicas, num_gpus, num_groups, num_nodes}, algorithm);
}

}  // namespace

void bind_placer(nb::module_& module) {
  nb::class_<PlacementAlgorithm>(module, "PlacementAlgorithm",
                                 "A placement algorithm: its row of the table (docs/policies.md).")
      .def_ro("name", &PlacementAlgorithm::name)
      .def_ro("rule", &PlacementAlgorithm::rule, "How it places, in one line.")
      .def_ro("source", &PlacementAlgorithm::source, "Who places so.")
      .def_ro("uses_loads", &PlacementAlgorithm::uses_loads)
      .def_ro("uses_groups", &PlacementAlgorithm::uses_groups, "It looks at groups and nodes.")
      .def_ro("repeats_on_gpu", &PlacementAlgorithm::repeats_on_gpu,
              "It may put two copies of an expert on one GPU.")
      .def_ro("summary", &PlacementAlgorithm::rule, "The rule, by its name before 0.2.")
      .def("__repr__", [](const PlacementAlgorithm& self) {
        return fmt::format("{}: {}", self.name, self.rule);
      });
  module.def(
      "placement_algorithms",
      [] {
        const auto table = placement_algorithms();
        return std::vector<PlacementAlgorithm>(table.begin(), table.end());
      },
      "All placement algorithms.");
  module.def("replicas_for", &replicas_for, nb::arg("num_experts"), nb::arg("replication"),
             nb::arg("num_gpus"),
             "Slots of a layer: the least multiple of `num_gpus` that is at least num_experts * "
             "replication.");
  module.def("place", &place_loads, nb::arg("loads"), nb::arg("num_replicas"), nb::arg("num_gpus"),
             nb::arg("algorithm") = std::string(kEplbAlgorithm), nb::kw_only(),
             nb::arg("num_groups") = 1, nb::arg("num_nodes") = 1,
             nb::sig("def place(loads: numpy.typing.ArrayLike, num_replicas: int, num_gpus: int, "
                     "algorithm: str = 'eplb', *, num_groups: int = 1, num_nodes: int = 1) -> "
                     "Placement"),
             "Places every layer for loads of shape [layers, experts], and solves the shares for\n"
             "policy `shares`. `num_replicas` counts all physical slots of a layer; only `eplb` "
             "looks\nat groups and nodes.\n\n"
             "    placement = metro_moe.place(loads, num_replicas=320, num_gpus=32, "
             "algorithm=\"homed\")");
  module.def(
      "solve_shares",
      [](const LayerPlacement& placement, nb::handle load) {
        return to_numpy(solve_shares(placement, layer_load(load)));
      },
      nb::arg("placement"), nb::arg("load"),
      nb::sig("def solve_shares(placement: LayerPlacement, load: numpy.typing.ArrayLike) -> "
              "numpy.typing.NDArray[numpy.float64]"),
      "Replica weights that even out the expected tokens per GPU for this load [experts].");
  module.def(
      "solve_homes",
      [](const LayerPlacement& placement, nb::handle load) {
        return to_numpy(solve_homes(placement, layer_load(load)));
      },
      nb::arg("placement"), nb::arg("load"),
      nb::sig("def solve_homes(placement: LayerPlacement, load: numpy.typing.ArrayLike) -> "
              "numpy.typing.NDArray[numpy.int32]"),
      "Home slots with as few experts on the fullest GPU as the replicas allow, and little of this "
      "load [experts].");
  module.def(
      "read_loads",
      [](const std::filesystem::path& path) {
        Loads loads = io::read_loads(path);
        return to_numpy(std::move(loads.tokens), {static_cast<std::size_t>(loads.num_layers),
                                                  static_cast<std::size_t>(loads.num_experts)});
      },
      nb::arg("path"), "Reads a loads file as [layers, experts].");
}

}  // namespace metro::python
