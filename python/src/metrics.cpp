// SPDX-License-Identifier: Apache-2.0
#include "metro/metrics.hpp"

#include <fmt/format.h>
#include <nanobind/stl/string.h>

#include "array.hpp"

namespace metro::python {
namespace {

template <typename T>
auto view_member(std::vector<T> RoutingMetrics::* member) {
  return [member](nb::handle self) {
    return view_of(nb::cast<const RoutingMetrics&>(self).*member, self);
  };
}

RoutingMetrics count_metrics(const LayerPlacement& placement, nb::handle replica_ids) {
  const IdMatrix ids(replica_ids, "replica_ids");
  check_ids(ids, placement.num_replicas(), "replica_ids", "a slot");
  return MetricsCounter(placement).count(ids.ids());
}

}  // namespace

void bind_metrics(nb::module_& module) {
  nb::class_<RoutingMetrics>(module, "RoutingMetrics",
                             "What one routed batch asks of each GPU in one layer.")
      .def_prop_ro("activated_per_gpu", view_member(&RoutingMetrics::activated_per_gpu),
                   "[gpus] replicas that got a token")
      .def_prop_ro("tokens_per_gpu", view_member(&RoutingMetrics::tokens_per_gpu),
                   "[gpus] (token, k) assignments")
      .def_ro("max_activated", &RoutingMetrics::max_activated)
      .def_ro("activated_total", &RoutingMetrics::activated_total)
      .def_ro("max_tokens", &RoutingMetrics::max_tokens)
      .def("__repr__", [](const RoutingMetrics& self) {
        return fmt::format("RoutingMetrics(max_activated={}, activated_total={}, max_tokens={})",
                           self.max_activated, self.activated_total, self.max_tokens);
      });
  module.def("count_metrics", &count_metrics, nb::arg("placement"), nb::arg("replica_ids"),
             nb::sig("def count_metrics(placement: LayerPlacement, "
                     "replica_ids: numpy.typing.ArrayLike) -> RoutingMetrics"),
             "Counts what replica ids of shape [tokens, topk] activate; -1 counts nowhere.");
}

}  // namespace metro::python
