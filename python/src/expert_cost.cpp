// SPDX-License-Identifier: Apache-2.0
#include "metro/expert_cost.hpp"

#include <fmt/format.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>

#include <memory>
#include <new>
#include <optional>
#include <string>
#include <tuple>
#include <utility>

#include "array.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/modelled_time.hpp"

namespace metro::python {
namespace {

using CostPtr = std::shared_ptr<ExpertCost>;

void make_cost(ExpertCost* self, nb::handle phi_us, double beyond_us, double base_us) {
  const AnyArray array = as_array(phi_us, "phi_us");
  require_dims(array, 1, "[tokens]", "phi_us");
  new (self) ExpertCost(ExpertTimes{to_double(array, "phi_us"), beyond_us, base_us});
}

CostPtr read_cost(const std::string& path, const std::optional<std::pair<int, int>>& shape,
                  const std::optional<std::string>& dtype) {
  io::ExpertChoice choice;
  if (shape) std::tie(choice.hidden, choice.intermediate) = *shape;
  if (dtype) {
    choice.weights = find_data_type(*dtype);
    if (!choice.weights) {
      throw Error(ErrorCode::kUsage,
                  fmt::format("dtype is '{}', must be one of fp32, bf16, fp8, fp4", *dtype));
    }
  }
  return std::make_shared<ExpertCost>(io::read_expert_cost(path, choice));
}

std::shared_ptr<const ExpertCost> or_standard(const CostPtr& cost) {
  return cost == nullptr ? ExpertCost::standard() : cost;
}

nb::object modelled_us(const LayerPlacement& placement, nb::handle replica_ids,
                       const CostPtr& cost) {
  const IdMatrix ids(replica_ids, "replica_ids");
  check_ids(ids, placement.num_replicas(), "replica_ids", "a slot");
  return nb::cast(to_numpy(TimeCounter(placement, or_standard(cost)).count(ids.ids()).per_gpu_us));
}

double bound_us(const LayerPlacement& placement, nb::handle topk_ids, const CostPtr& cost) {
  const IdMatrix ids(topk_ids, "topk_ids");
  check_ids(ids, placement.num_experts, "topk_ids", "an expert");
  return time_bound_us(placement, *or_standard(cost),
                       {ids.ids(), static_cast<int>(ids.rows()), static_cast<int>(ids.columns())});
}

}  // namespace

void bind_expert_cost(nb::module_& module) {
  nb::class_<ExpertCost>(
      module, "ExpertCost",
      "What the routed experts of one GPU cost in one layer: base + the sum of phi(tokens) over "
      "its replicas\nthat got a token, in microseconds. Immutable.\n\n"
      "    cost = metro_moe.ExpertCost([0, 28.3, 28.3, 28.5], beyond_us=0.47, base_us=18.9)")
      .def("__init__", &make_cost, nb::arg("phi_us"), nb::kw_only(), nb::arg("beyond_us"),
           nb::arg("base_us") = 0.0,
           nb::sig("def __init__(self, phi_us: numpy.typing.ArrayLike, *, beyond_us: float, "
                   "base_us: float = 0.0) -> None"),
           "`phi_us[n]` of n tokens: the first is 0, and it never falls. `beyond_us` for each "
           "token after the last.")
      .def_static(
          "standard", [] { return std::make_shared<ExpertCost>(*ExpertCost::standard()); },
          "DeepSeek-V3's experts in bf16 on an H100: what is used where no cost is given.")
      .def(
          "phi",
          [](const ExpertCost& self, std::int64_t tokens) {
            if (tokens < 0) throw nb::value_error("tokens must be >= 0");
            return self.phi(tokens);
          },
          nb::arg("tokens"), "Microseconds of a replica with so many tokens.")
      .def_prop_ro("base_us", &ExpertCost::base)
      .def_prop_ro("beyond_us", [](const ExpertCost& self) { return self.times().beyond_us; })
      .def_prop_ro("phi_us",
                   [](nb::handle self) {
                     return view_of(nb::cast<const ExpertCost&>(self).times().phi_us, self);
                   })
      .def("__repr__", [](const ExpertCost& self) {
        return fmt::format("ExpertCost(phi_us of {} entries, beyond_us={}, base_us={})",
                           self.times().phi_us.size(), self.times().beyond_us, self.base());
      });
  module.def("read_expert_cost", &read_cost, nb::arg("path"), nb::kw_only(),
             nb::arg("shape") = nb::none(), nb::arg("dtype") = nb::none(),
             "An expert cost file, or the experts of a calibration that `shape` (hidden, "
             "intermediate) and\n`dtype` pick: `--cost`.");
  module.def("modelled_us", &modelled_us, nb::arg("placement"), nb::arg("replica_ids"),
             nb::arg("cost") = nb::none(),
             nb::sig("def modelled_us(placement: LayerPlacement, replica_ids: "
                     "numpy.typing.ArrayLike, cost: ExpertCost | None = None) -> "
                     "numpy.typing.NDArray[numpy.float64]"),
             "[gpus] microseconds of what replica ids [tokens, topk] activate; -1 costs nothing.");
  module.def("time_bound_us", &bound_us, nb::arg("placement"), nb::arg("topk_ids"),
             nb::arg("cost") = nb::none(),
             nb::sig("def time_bound_us(placement: LayerPlacement, topk_ids: "
                     "numpy.typing.ArrayLike, cost: ExpertCost | None = None) -> float"),
             "What the slowest GPU takes at least, however the batch is routed and split.");
}

}  // namespace metro::python
