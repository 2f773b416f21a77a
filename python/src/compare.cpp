// SPDX-License-Identifier: Apache-2.0
#include "metro/compare.hpp"

#include <fmt/format.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/shared_ptr.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <tuple>

#include "bindings.hpp"
#include "metro/router.hpp"
#include "python_policy.hpp"

namespace metro::python {
namespace {

using ProgressCallback = std::optional<std::function<void(std::size_t, std::size_t)>>;

std::vector<std::string> all_policies() {
  std::vector<std::string> names;
  for (const PolicyInfo& policy : policies()) names.emplace_back(policy.name);
  return names;
}

/// What `policies` holds at `at`: a name, a function with a __name__, or (name, function).
void add_policy(CompareSpec& spec, nb::handle policy, std::size_t at, FirstError& errors) {
  std::string name;
  if (nb::try_cast(policy, name)) {
    spec.policies.push_back(std::move(name));
    return;
  }
  nb::handle function = policy;
  if (nb::isinstance<nb::tuple>(policy) && nb::len(policy) == 2 && nb::try_cast(policy[0], name)) {
    function = nb::borrow<nb::tuple>(policy)[1];  // which the list keeps alive
  } else if (!PyCallable_Check(policy.ptr()) || !nb::hasattr(policy, "__name__") ||
             !nb::try_cast(policy.attr("__name__"), name)) {
    throw nb::type_error(fmt::format("policies[{}] must be a name, a function that has one, or "
                                     "(name, function)",
                                     at)
                             .c_str());
  }
  if (!PyCallable_Check(function.ptr())) {
    throw nb::type_error(
        fmt::format("policies[{}] names '{}', which is no function", at, name).c_str());
  }
  spec.policies.push_back(name);
  spec.custom.push_back(
      {name, [name, function, &errors](const LayerPlacement& placement, const RouteOptions&) {
         return make_python_policy(name, function, placement, errors);
       }});
}

std::vector<CompareRow> compare_trace(const RoutingTrace& trace, std::vector<int> gpus,
                                      std::vector<double> replication, std::vector<int> tokens,
                                      const std::optional<std::vector<nb::object>>& policies,
                                      std::vector<std::string> algorithms, std::vector<int> ep,
                                      bool tokens_are_per_gpu, int batches, std::uint64_t seed,
                                      int num_threads, const ProgressCallback& progress,
                                      const std::shared_ptr<ExpertCost>& cost) {
  FirstError errors;
  CompareSpec spec;
  spec.algorithms = std::move(algorithms);
  spec.gpus = std::move(gpus);
  spec.ep = std::move(ep);
  spec.replication = std::move(replication);
  spec.tokens = std::move(tokens);
  spec.tokens_are_per_gpu = tokens_are_per_gpu;
  if (!policies) spec.policies = all_policies();
  for (std::size_t i = 0; policies && i < policies->size(); ++i) {
    add_policy(spec, (*policies)[i], i, errors);
  }
  spec.batches = batches;
  spec.seed = seed;
  spec.num_threads = num_threads;
  spec.cost = cost;
  std::vector<CompareRow> rows;
  {
    const nb::gil_scoped_release release;
    rows = compare(trace, spec, [&](std::size_t done, std::size_t total) {
      const nb::gil_scoped_acquire gil;
      if (PyErr_CheckSignals() != 0) throw nb::python_error();  // Ctrl-C
      errors.raise();                                           // before hours of replay, not after
      if (progress) (*progress)(done, total);
    });
  }
  errors.raise();
  return rows;
}

// The fields by name, once for attributes and for dictionaries.
constexpr auto kFields = std::tuple(
    std::pair("algorithm", &CompareRow::algorithm), std::pair("gpus", &CompareRow::gpus),
    std::pair("ep", &CompareRow::ep), std::pair("replication", &CompareRow::replication),
    std::pair("replicas", &CompareRow::replicas), std::pair("tokens", &CompareRow::tokens),
    std::pair("policy", &CompareRow::policy),
    std::pair("max_activated", &CompareRow::max_activated),
    std::pair("max_tokens", &CompareRow::max_tokens),
    std::pair("activated_total", &CompareRow::activated_total),
    std::pair("active_experts", &CompareRow::active_experts),
    std::pair("no_replication", &CompareRow::no_replication),
    std::pair("token_imbalance", &CompareRow::token_imbalance),
    std::pair("vs_even", &CompareRow::vs_even),
    std::pair("vs_no_replication", &CompareRow::vs_no_replication),
    std::pair("vs_optimal", &CompareRow::vs_optimal), std::pair("vs_ep", &CompareRow::vs_ep),
    std::pair("worse_than_none", &CompareRow::worse_than_none),
    std::pair("modelled", &CompareRow::modelled_us),
    std::pair("modelled_bound", &CompareRow::modelled_bound_us));

nb::dict as_dict(const CompareRow& row) {
  nb::dict out;
  std::apply([&](const auto&... field) { ((out[field.first] = nb::cast(row.*field.second)), ...); },
             kFields);
  return out;
}

}  // namespace

void bind_compare(nb::module_& module) {
  nb::class_<CompareRow> row(module, "CompareRow",
                             "One policy at one point of the grid; means are over batches and "
                             "layers. Fields as in `metro compare --json`.");
  std::apply([&](const auto&... field) { (row.def_ro(field.first, field.second), ...); }, kFields);
  row.def("as_dict", &as_dict, nb::sig("def as_dict(self) -> dict[str, float | int | str]"),
          "For pandas: `pandas.DataFrame(row.as_dict() for row in rows)`.");
  row.def("__repr__", [](const CompareRow& self) {
    return fmt::format("CompareRow({}, {} GPUs, {}x, {} tokens, {}: max_activated={:.2f})",
                       self.algorithm, self.gpus, self.replication, self.tokens, self.policy,
                       self.max_activated);
  });

  module.def(
      "compare", &compare_trace, nb::arg("trace"), nb::kw_only(), nb::arg("gpus"),
      nb::arg("replication"), nb::arg("tokens"), nb::arg("policies") = nb::none(),
      nb::arg("algorithms") = std::vector<std::string>{std::string(kEplbAlgorithm)},
      nb::arg("ep") = std::vector<int>{}, nb::arg("tokens_are_per_gpu") = false,
      nb::arg("batches") = 32, nb::arg("seed") = 0, nb::arg("num_threads") = 0,
      nb::arg("progress") = nb::none(), nb::arg("cost") = nb::none(),
      nb::sig("def compare(trace: RoutingTrace, *, gpus: collections.abc.Sequence[int], "
              "replication: collections.abc.Sequence[float], "
              "tokens: collections.abc.Sequence[int], "
              "policies: collections.abc.Sequence[str | collections.abc.Callable[[LayerPlacement, "
              "numpy.typing.NDArray[numpy.int32]], numpy.typing.ArrayLike] | tuple[str, "
              "collections.abc.Callable[[LayerPlacement, numpy.typing.NDArray[numpy.int32]], "
              "numpy.typing.ArrayLike]]] | None = None, "
              "algorithms: collections.abc.Sequence[str] = ['eplb'], "
              "ep: collections.abc.Sequence[int] = [], tokens_are_per_gpu: bool = False, batches: "
              "int = 32, seed: int = 0, "
              "num_threads: int = 0, "
              "progress: collections.abc.Callable[[int, int], None] | None = None, "
              "cost: ExpertCost | None = None) -> "
              "list[CompareRow]"),
      "Replays decode batches of a trace under every combination of the lists: `metro compare`.\n\n"
      "`ep`: GPUs that the experts are spread over, each sharded beyond; left out: all.\n"
      "Placements come from the first half of the trace, batches from the second. `policies` left "
      "out:\nall. A policy is a name, or a function of your own: f(layer_placement, topk_ids) "
      "gives "
      "the replica of\neach id of [tokens, topk], checked to be one of its expert's, -1 for -1; "
      "its name is its __name__, or the\nfirst of (name, function). `progress(done, total)` is "
      "called now and then, from any thread. The result does "
      "not depend on\n`num_threads` (0: one per core). With a `cost` rows have `modelled` and "
      "`modelled_bound` in us, else 0.");
}

}  // namespace metro::python
