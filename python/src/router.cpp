// SPDX-License-Identifier: Apache-2.0
#include "metro/router.hpp"

#include <fmt/format.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/string_view.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "array.hpp"
#include "metro/error.hpp"

namespace metro::python {
namespace {

using OutArray = nb::ndarray<std::int32_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

/// A router, and what a batch must look like to be given to it.
class PyRouter {
 public:
  PyRouter(const LayerPlacement& placement, const std::string& policy, std::uint64_t seed,
           int layer, int num_nodes, const std::shared_ptr<ExpertCost>& cost)
      : router_(placement, policy, {seed, layer, num_nodes, cost}),
        num_experts_(placement.num_experts),
        policy_(policy) {}

  nb::object route(nb::handle topk_ids, nb::handle out) {
    const IdMatrix batch(topk_ids, "topk_ids");
    const TopkView view = view_of_batch(batch);
    if (!out.is_none()) {
      OutArray array;
      if (!nb::try_cast(out, array, false)) {
        throw nb::type_error("out must be a writable C-order int32 array of topk_ids' shape");
      }
      if (array.shape(0) != batch.rows() || array.shape(1) != batch.columns()) {
        throw nb::value_error(fmt::format("out is [{}, {}], must be [{}, {}] as topk_ids",
                                          array.shape(0), array.shape(1), batch.rows(),
                                          batch.columns())
                                  .c_str());
      }
      const auto in = reinterpret_cast<std::uintptr_t>(view.ids.data());
      const auto at = reinterpret_cast<std::uintptr_t>(array.data());
      if (in != at && std::max(in, at) - std::min(in, at) < view.ids.size_bytes()) {
        throw nb::value_error("out overlaps topk_ids, must be apart or the same array");
      }
      router_.route(view, {array.data(), array.size()});
      return nb::borrow(out);
    }
    std::vector<std::int32_t> replica_ids(batch.ids().size());
    router_.route(view, replica_ids);
    return nb::cast(to_numpy(std::move(replica_ids), {batch.rows(), batch.columns()}));
  }

  [[nodiscard]] const std::string& policy() const noexcept { return policy_; }
  [[nodiscard]] int num_experts() const noexcept { return num_experts_; }

 private:
  static TopkView view_of_batch(const IdMatrix& batch) {
    return {batch.ids(), static_cast<int>(batch.rows()), static_cast<int>(batch.columns())};
  }

  Router router_;
  int num_experts_;
  std::string policy_;
};

}  // namespace

void bind_router(nb::module_& module) {
  nb::class_<PolicyInfo>(module, "PolicyInfo",
                         "Everything that this library knows of a routing policy: its row of the "
                         "table (docs/policies.md).")
      .def_ro("name", &PolicyInfo::name)
      .def_ro("rule", &PolicyInfo::rule, "How it chooses, in one line.")
      .def_ro("source", &PolicyInfo::source, "Who routes so.")
      .def_prop_ro(
          "needs", [](const PolicyInfo& self) { return to_string(self.needs); },
          "What a rank must know to route its own tokens: \"own-rows\", \"bitmap\" (which experts "
          "all ranks' tokens activate) or \"ids\" (of all ranks' tokens).")
      .def_prop_ro("splits", &PolicyInfo::splits,
                   "Tokens of one expert may go to several of its replicas.")
      .def_ro("counts_tokens", &PolicyInfo::counts_tokens,
              "The choice depends on how many tokens of the expert come before.")
      .def_ro("single_replica", &PolicyInfo::single_replica,
              "Each active expert is served by one replica.")
      .def_ro("uses_homes", &PolicyInfo::uses_homes, "It looks at LayerPlacement.home.")
      .def_ro("uses_shares", &PolicyInfo::uses_shares, "It looks at LayerPlacement.shares.")
      .def_ro("uses_cost", &PolicyInfo::uses_cost, "It looks at what an expert's tokens cost.")
      .def_ro("device", &PolicyInfo::device, "cuda.Router has it.")
      .def_ro("headline", &PolicyInfo::headline, "Pages with room for a few policies show it.")
      .def_ro("route_us", &PolicyInfo::route_us,
              "Microseconds of one layer on a GPU where no calibration says better.")
      .def_ro("calibration_key", &PolicyInfo::calibration_key,
              "The policy whose measured time is its own, if it has none.")
      .def_ro("summary", &PolicyInfo::rule, "The rule, by its name before 0.2.")
      .def("__repr__",
           [](const PolicyInfo& self) { return fmt::format("{}: {}", self.name, self.rule); });
  module.def(
      "policies",
      [] {
        const auto table = policies();
        return std::vector<PolicyInfo>(table.begin(), table.end());
      },
      "The table of routing policies, a row each: `metro policies`.");
  module.attr("DEFAULT_POLICY") = std::string(kDefaultPolicy);

  nb::class_<PyRouter>(
      module, "Router",
      "Chooses which replica serves each (token, k) of one MoE layer, on the CPU.\n\n"
      "    router = metro_moe.Router(placement.layers[0], \"optimal\")\n"
      "    replica_ids = router.route(topk_ids)\n\n"
      "Deterministic. Owns its workspace; holds the GIL while it routes.")
      .def(nb::init<const LayerPlacement&, const std::string&, std::uint64_t, int, int,
                    const std::shared_ptr<ExpertCost>&>(),
           nb::arg("placement"), nb::arg("policy") = std::string(kDefaultPolicy), nb::kw_only(),
           nb::arg("seed") = 0, nb::arg("layer") = 0, nb::arg("num_nodes") = 1,
           nb::arg("cost") = nb::none(),
           "`seed` and `layer` matter to `random`, `num_nodes` to `static`, `cost` to `hybrid`.")
      .def(
          "route", &PyRouter::route, nb::arg("topk_ids"), nb::arg("out") = nb::none(),
          nb::sig("def route(self, topk_ids: numpy.typing.ArrayLike, "
                  "out: numpy.typing.NDArray[numpy.int32] | None = None) -> "
                  "numpy.typing.NDArray[numpy.int32]"),
          "The replica (slot) of each id of [tokens, topk]. An id that is no expert becomes -1.\n\n"
          "int32 arrays in C order are read, and `out` is written, without a copy; `out` may be "
          "`topk_ids`.")
      .def_prop_ro("policy", &PyRouter::policy)
      .def_prop_ro("num_experts", &PyRouter::num_experts);
}

}  // namespace metro::python
