// SPDX-License-Identifier: Apache-2.0
#include "metro/compare.hpp"

#include <fmt/format.h>
#include <nanobind/stl/function.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <optional>
#include <tuple>

#include "bindings.hpp"
#include "metro/router.hpp"

namespace metro::python {
namespace {

using ProgressCallback = std::optional<std::function<void(std::size_t, std::size_t)>>;

std::vector<std::string> all_policies() {
  std::vector<std::string> names;
  for (const PolicyInfo& policy : policies()) names.emplace_back(policy.name);
  return names;
}

std::vector<CompareRow> compare_trace(const RoutingTrace& trace, std::vector<int> gpus,
                                      std::vector<double> replication, std::vector<int> tokens,
                                      std::optional<std::vector<std::string>> policies,
                                      std::vector<std::string> algorithms, bool tokens_are_per_gpu,
                                      int batches, std::uint64_t seed, int num_threads,
                                      const ProgressCallback& progress) {
  CompareSpec spec;
  spec.algorithms = std::move(algorithms);
  spec.gpus = std::move(gpus);
  spec.replication = std::move(replication);
  spec.tokens = std::move(tokens);
  spec.tokens_are_per_gpu = tokens_are_per_gpu;
  spec.policies = policies ? *std::move(policies) : all_policies();
  spec.batches = batches;
  spec.seed = seed;
  spec.num_threads = num_threads;
  const nb::gil_scoped_release release;
  return compare(trace, spec, [&](std::size_t done, std::size_t total) {
    const nb::gil_scoped_acquire gil;
    if (PyErr_CheckSignals() != 0) throw nb::python_error();  // Ctrl-C
    if (progress) (*progress)(done, total);
  });
}

// The fields by name, once for attributes and for dictionaries.
constexpr auto kFields =
    std::tuple(std::pair("algorithm", &CompareRow::algorithm), std::pair("gpus", &CompareRow::gpus),
               std::pair("replication", &CompareRow::replication),
               std::pair("replicas", &CompareRow::replicas),
               std::pair("tokens", &CompareRow::tokens), std::pair("policy", &CompareRow::policy),
               std::pair("max_activated", &CompareRow::max_activated),
               std::pair("max_tokens", &CompareRow::max_tokens),
               std::pair("activated_total", &CompareRow::activated_total),
               std::pair("active_experts", &CompareRow::active_experts),
               std::pair("no_replication", &CompareRow::no_replication),
               std::pair("token_imbalance", &CompareRow::token_imbalance),
               std::pair("vs_even", &CompareRow::vs_even),
               std::pair("vs_no_replication", &CompareRow::vs_no_replication),
               std::pair("vs_optimal", &CompareRow::vs_optimal),
               std::pair("worse_than_none", &CompareRow::worse_than_none));

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
      nb::arg("algorithms") = std::vector<std::string>{"eplb"},
      nb::arg("tokens_are_per_gpu") = false, nb::arg("batches") = 32, nb::arg("seed") = 0,
      nb::arg("num_threads") = 0, nb::arg("progress") = nb::none(),
      "Replays decode batches of a trace under every combination of the lists: `metro compare`.\n\n"
      "Placements come from the first half of the trace, batches from the second. `policies` left "
      "out:\nall. `progress(done, total)` is called now and then, from any thread. The result does "
      "not depend on\n`num_threads` (0: one per core).");
  module.def("replicas_for", &replicas_for, nb::arg("num_experts"), nb::arg("replication"),
             nb::arg("num_gpus"),
             "Slots of a layer: the least multiple of `num_gpus` that is at least num_experts * "
             "replication.");
}

}  // namespace metro::python
