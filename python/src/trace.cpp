// SPDX-License-Identifier: Apache-2.0
#include "metro/trace.hpp"

#include <fmt/format.h>
#include <nanobind/stl/filesystem.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <bit>
#include <filesystem>
#include <memory>
#include <optional>

#include "array.hpp"
#include "metro/batches.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/trace_generator.hpp"

namespace metro::python {
namespace {

static_assert(std::endian::native == std::endian::little, "traces are viewed as they are stored");

/// Keeps a Python object alive from C++, and lets it go from any thread.
std::shared_ptr<const void> keep(nb::object object) {
  PyObject* const pointer = object.release().ptr();
  return {pointer, [](PyObject* kept) {
            const nb::gil_scoped_acquire gil;
            Py_DECREF(kept);
          }};
}

/// Whether nobody in this process can write what the array views: `bytes`, or a read-only mapping
/// of a file. A read-only array tells nothing: the one that it views, or its owner, may be written.
bool is_immutable(nb::handle array) {
  const nb::object numpy = nb::module_::import_("numpy");
  const nb::object mapping = nb::module_::import_("mmap").attr("mmap");
  nb::object owner = nb::borrow(array);
  while (!owner.is_none() && nb::isinstance(owner, numpy.attr("ndarray"))) {
    owner = owner.attr("base");
  }
  while (PyMemoryView_Check(owner.ptr())) owner = owner.attr("obj");
  if (nb::isinstance<nb::bytes>(owner)) return true;
  return nb::isinstance(owner, mapping) &&
         nb::cast<bool>(
             nb::module_::import_("builtins").attr("memoryview")(owner).attr("readonly"));
}

/// What cannot change is viewed. Other arrays are copied: ids that change after they were checked
/// would lead outside of what is counted by them.
nb::object frozen(const nb::object& array) {
  const nb::object numpy = nb::module_::import_("numpy");
  nb::object own = is_immutable(array) ? numpy.attr("ascontiguousarray")(array)
                                       : array.attr("copy")(nb::arg("order") = "C");
  own.attr("setflags")(nb::arg("write") = false);
  return own;
}

/// Before anything is copied: a broadcast array is as long as one likes, for nothing.
void check_shape(nb::handle array) {
  const nb::object shape = array.attr("shape");
  if (nb::len(shape) != 3) return;  // told with its name below
  std::int64_t ids = 1;
  for (std::size_t d = 0; d < 3; ++d) {
    constexpr std::int64_t kMaxWidth = std::int64_t{1} << 31;
    constexpr std::int64_t kMaxIds = std::int64_t{1} << 40;
    const auto size = nb::cast<std::int64_t>(shape[d]);
    if (size < 1 || (d > 0 && size >= kMaxWidth) || size > kMaxIds / ids) {
      throw Error(ErrorCode::kInput,
                  fmt::format("ids have shape {}, each must be at least 1 and all together at most "
                              "{} ids",
                              nb::str(shape).c_str(), kMaxIds));
    }
    ids *= size;
  }
}

void make_trace_of(RoutingTrace* self, nb::handle ids, int num_experts, std::string model,
                   std::string phase, std::optional<std::vector<std::int64_t>> sequence_lengths,
                   std::string source, std::string licence) {
  const nb::object given = nb::module_::import_("numpy").attr("asarray")(ids);
  check_shape(given);
  const nb::object own = frozen(given);
  const AnyArray array = as_array(own, "ids");
  require_dims(array, 3, "[tokens, layers, topk]", "ids");
  if (!holds_integers(array)) throw nb::type_error("ids must hold integers");
  const auto num_tokens = static_cast<std::int64_t>(array.shape(0));
  TraceInfo info{num_experts,  std::move(model),  std::move(phase),
                 {num_tokens}, std::move(source), std::move(licence)};
  if (sequence_lengths) info.sequence_lengths = *std::move(sequence_lengths);
  const bool is_signed =
      array.dtype().code == static_cast<std::uint8_t>(nb::dlpack::dtype_code::Int);
  RoutingTrace trace(keep(own), static_cast<const std::byte*>(array.data()), array.dtype().bits / 8,
                     is_signed, num_tokens, static_cast<int>(array.shape(1)),
                     static_cast<int>(array.shape(2)), std::move(info));
  const nb::gil_scoped_release release;
  trace.validate_ids();
  new (self) RoutingTrace(std::move(trace));
}

/// The ids where they are, in a file's mapping or an array: nothing is read until it is looked at.
nb::object ids_of(nb::handle self) {
  const auto& trace = nb::cast<const RoutingTrace&>(self);
  const nb::dlpack::dtype type{
      static_cast<std::uint8_t>(trace.is_signed() ? nb::dlpack::dtype_code::Int
                                                  : nb::dlpack::dtype_code::UInt),
      static_cast<std::uint8_t>(8 * trace.bytes_per_id()), 1};
  const std::size_t shape[] = {static_cast<std::size_t>(trace.num_tokens()),
                               static_cast<std::size_t>(trace.num_layers()),
                               static_cast<std::size_t>(trace.topk())};
  return nb::cast(nb::ndarray<nb::numpy, nb::ro>(trace.data(), 3, shape, self, nullptr, type));
}

/// Bounds [begin, end) as Python slices have them.
std::pair<std::int64_t, std::int64_t> bounds(const RoutingTrace& trace, std::int64_t begin,
                                             std::optional<std::int64_t> end) {
  const std::int64_t stop = end.value_or(trace.num_tokens());
  if (begin < 0 || begin > stop || stop > trace.num_tokens()) {
    throw nb::value_error(
        fmt::format("tokens {}..{} are not in 0..{}", begin, stop, trace.num_tokens()).c_str());
  }
  return {begin, stop};
}

NumpyArray<double> loads_of(const RoutingTrace& trace, std::int64_t begin,
                            std::optional<std::int64_t> end) {
  const auto [first, stop] = bounds(trace, begin, end);
  Loads loads = [&] {
    const nb::gil_scoped_release release;
    return trace.loads(first, stop);
  }();
  return to_numpy(std::move(loads.tokens), {static_cast<std::size_t>(loads.num_layers),
                                            static_cast<std::size_t>(loads.num_experts)});
}

NumpyArray<std::int32_t> gather(const RoutingTrace& trace, const std::vector<std::int64_t>& rows,
                                int layer) {
  if (layer < 0 || layer >= trace.num_layers()) {
    throw nb::index_error(
        fmt::format("layer {} is not in 0..{}", layer, trace.num_layers() - 1).c_str());
  }
  for (const std::int64_t row : rows) {
    if (row >= 0 && row < trace.num_tokens()) continue;
    throw nb::index_error(
        fmt::format("token {} is not in 0..{}", row, trace.num_tokens() - 1).c_str());
  }
  const auto topk = static_cast<std::size_t>(trace.topk());
  std::vector<std::int32_t> ids(rows.size() * topk);
  trace.gather(rows, layer, ids);
  return to_numpy(std::move(ids), {rows.size(), topk});
}

RoutingTrace generate(const std::string& profile, const std::vector<std::int64_t>& lengths,
                      const std::string& phase, std::uint64_t seed) {
  const RouterProfile* const found = find_router_profile(profile);
  if (found == nullptr) {
    std::string names;
    for (const RouterProfile& row : router_profiles()) names += fmt::format(" {}", row.name);
    throw Error(ErrorCode::kUsage,
                fmt::format("profile is '{}', must be one of{}", profile, names));
  }
  return generate_trace(found->model, lengths, phase, seed);
}

void bind_trace_class(nb::module_& module) {
  nb::class_<RoutingTrace>(
      module, "RoutingTrace",
      "The experts that each token chose in each MoE layer: [tokens, layers, topk].\n\n"
      "    trace = metro_moe.read_trace(\"decode.npy\")   # maps the file\n"
      "    trace.ids[0, 3]                              # a NumPy view of it")
      .def(
          "__init__", &make_trace_of, nb::arg("ids"), nb::arg("num_experts"), nb::kw_only(),
          nb::arg("model") = "", nb::arg("phase") = "mixed",
          nb::arg("sequence_lengths") = nb::none(), nb::arg("source") = "", nb::arg("licence") = "",
          nb::sig("def __init__(self, ids: numpy.typing.ArrayLike, num_experts: int, *, "
                  "model: str = '', phase: str = 'mixed', "
                  "sequence_lengths: collections.abc.Sequence[int] | None = None, "
                  "source: str = '', licence: str = '') -> None"),
          "A trace over ids of shape [tokens, layers, topk]; -1 is masked, every id is checked.\n\n"
          "An array over bytes or a read-only mapping (numpy.load(..., mmap_mode='r')) is viewed, "
          "any other\nis copied. Without `sequence_lengths` all tokens are one sequence.")
      .def_prop_ro("ids", &ids_of, nb::sig("def ids(self) -> numpy.typing.NDArray[numpy.integer]"),
                   "Read-only view [tokens, layers, topk] of the type that is stored.")
      .def_prop_ro("num_tokens", &RoutingTrace::num_tokens)
      .def_prop_ro("num_layers", &RoutingTrace::num_layers)
      .def_prop_ro("topk", &RoutingTrace::topk)
      .def_prop_ro("num_experts", &RoutingTrace::num_experts)
      .def_prop_ro("info", &RoutingTrace::info, nb::rv_policy::reference_internal)
      .def("loads", &loads_of, nb::arg("begin") = 0, nb::arg("end") = nb::none(),
           "Tokens per [layer, expert] over tokens [begin, end): what `place` takes.")
      .def("gather", &gather, nb::arg("rows"), nb::arg("layer"),
           "The ids of these tokens in one layer: [len(rows), topk], a batch for Router.route.")
      .def("__repr__", [](const RoutingTrace& self) {
        return fmt::format("RoutingTrace({} tokens, {} layers, top-{} of {} experts)",
                           self.num_tokens(), self.num_layers(), self.topk(), self.num_experts());
      });
}

}  // namespace

void bind_trace(nb::module_& module) {
  nb::class_<TraceInfo>(module, "TraceInfo", "What a trace's .json says of it.")
      .def_ro("num_experts", &TraceInfo::num_experts)
      .def_ro("model", &TraceInfo::model)
      .def_ro("phase", &TraceInfo::phase, "\"decode\", \"prefill\" or \"mixed\"")
      .def_ro("sequence_lengths", &TraceInfo::sequence_lengths)
      .def_ro("source", &TraceInfo::source)
      .def_ro("licence", &TraceInfo::licence);
  bind_trace_class(module);

  module.def("read_trace", &io::read_trace, nb::arg("npy"),
             nb::call_guard<nb::gil_scoped_release>(),
             "Maps `<stem>.npy`, reads `<stem>.json` and checks every id. No copy of the data.");
  module.def("write_trace", &io::write_trace, nb::arg("trace"), nb::arg("npy"),
             nb::call_guard<nb::gil_scoped_release>(),
             "Writes `<stem>.npy` with the smallest type that holds the ids, and `<stem>.json`.");
  module.def(
      "router_profiles",
      [] {
        std::vector<std::string> names;
        for (const RouterProfile& row : router_profiles()) names.emplace_back(row.name);
        return names;
      },
      "Names for `generate_trace`.");
  module.def("generate_trace", &generate, nb::arg("profile"), nb::arg("sequence_lengths"),
             nb::arg("phase") = "decode", nb::arg("seed") = 0,
             nb::call_guard<nb::gil_scoped_release>(),
             "Draws a synthetic trace of a named profile (docs/trace-generator.md); the same on "
             "any machine.");

  nb::class_<DecodeBatches>(
      module, "DecodeBatches",
      "Draws decode batches from part of a trace, as continuous batching would mix its sequences.")
      .def(
          "__init__",
          [](DecodeBatches* self, const RoutingTrace& trace, std::int64_t begin,
             std::optional<std::int64_t> end) {
            const auto [first, stop] = bounds(trace, begin, end);
            new (self) DecodeBatches(trace, first, stop);
          },
          nb::arg("trace"), nb::arg("begin") = 0, nb::arg("end") = nb::none())
      .def_prop_ro("capacity", &DecodeBatches::capacity, "Largest batch that can be drawn.")
      .def(
          "draw",
          [](DecodeBatches& self, std::int64_t num_tokens, std::uint64_t seed,
             std::uint64_t batch) {
            const auto rows = self.draw(num_tokens, seed, batch);
            return std::vector<std::int64_t>(rows.begin(), rows.end());
          },
          nb::arg("num_tokens"), nb::arg("seed") = 0, nb::arg("batch") = 0,
          "Rows of the trace, for RoutingTrace.gather.");
}

}  // namespace metro::python
