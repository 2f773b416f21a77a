// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <array>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "command.hpp"
#include "core/vocabulary.hpp"
#include "cuda_device.hpp"
#include "layer_bench/layer_bench.hpp"
#include "layer_bench/rank_start.hpp"
#include "metro/ep/moe_layer.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/model.hpp"
#include "metro/placement.hpp"
#include "names.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/layers/layer_bench_result.hpp"
#include "report/result.hpp"
#include "terminal.hpp"

#if METRO_HAVE_EP_CUDA
#include "layer_bench/cuda/layer_bench_cuda.hpp"
#endif

namespace metro::cli {
namespace {

constexpr std::array<std::string_view, 2> kDevices = {"cpu", "cuda"};
constexpr std::array<std::string_view, 4> kTransports = {"virtual", "local", "mpi", "nccl"};
constexpr std::array<std::string_view, 2> kDispatches = {to_string(Dispatch::kAllGather),
                                                         to_string(Dispatch::kAllToAll)};
constexpr std::array<std::string_view, 2> kCombines = {"reduce-scatter", "all-to-all"};
constexpr std::array<std::string_view, 3> kExperts = {kWholeExperts, kMoeTp,
                                                      "tensor-sharded"};  // old spelling
constexpr std::array<std::string_view, 3> kTypes = {"fp32", "bf16", "fp8"};

constexpr const char* kDefaultModel = "Qwen3-30B-A3B";

struct BenchLayerOptions : CommonOptions {
  layer_bench::LayerBenchOptions bench{.models = {}, .dtypes = {}, .kernels = {}, .progress = {}};
  std::vector<std::filesystem::path> models;  // or names; empty: kDefaultModel
  std::vector<int> gpus;
  std::vector<int> virtual_gpus;
  std::vector<int> tokens_per_gpu;
  std::vector<double> replication;
  std::vector<std::string> dtypes;
  int batches = 0;
  int repeats = 0;
  int hidden = 0;
  int intermediate = 0;
  std::string dispatch{to_string(Dispatch::kAllGather)};
  std::string combine = "reduce-scatter";
  std::string experts = "ep";
  std::string device = "cpu";
  std::string transport;
  std::filesystem::path trace;
};

[[noreturn]] void fail(const std::string& message) { throw Error(ErrorCode::kUsage, message); }

/// Emulated ranks unless real ones are asked for.
std::string transport_of(const BenchLayerOptions& options) {
  if (!options.transport.empty()) return options.transport;
  return options.gpus.empty() ? "virtual" : "local";
}

/// What is wrong with the command line alone.
void check(const BenchLayerOptions& options) {
  for (const std::filesystem::path& model : options.models) {
    const std::string name = model.string();
    if (find_model(name) == nullptr && !is_file_name(name, ".json")) {
      fail(fmt::format("--model is '{}'{}, must be a config.json or one of {}", name,
                       did_you_mean(name, model_names()), join(model_names())));
    }
  }
  const bool is_cpu = options.device == "cpu";
  if (options.transport == "nccl" && is_cpu) {
    fail("--transport is nccl, but --device is cpu, use virtual, local or mpi");
  }
  if (!is_cpu && !options.transport.empty() && options.transport != "nccl" &&
      options.transport != "virtual") {
    fail(fmt::format("--transport is {}, but --device is cuda, use nccl or virtual",
                     options.transport));
  }
  if (is_cpu && transport_of(options) == "local" && options.gpus.size() > 1) {
    fail("--gpus is a list, but ranks that are threads are one number, or use --virtual-gpus");
  }
  if (!is_cpu && options.bench.ep > 0) {
    fail(
        fmt::format("--ep is {}, but --device is cuda: groups run on CPU ranks", options.bench.ep));
  }
  for (const int gpus : options.gpus.empty() ? options.virtual_gpus : options.gpus) {
    if (options.bench.ep > 0 && gpus % options.bench.ep != 0) {
      fail(fmt::format("--ep is {}, must divide {} GPUs", options.bench.ep, gpus));
    }
  }
  for (const std::string& dtype : options.dtypes) {
    if (!is_cpu && dtype == "fp32") fail("--dtype is fp32, but --device is cuda, use bf16 or fp8");
  }
}

ModelConfig load_model(const std::string& name, const BenchLayerOptions& options) {
  const ModelConfig* known = find_model(name);
  ModelConfig model = known != nullptr ? *known : io::load_model_config(name);
  if (model.num_experts == 0) {
    throw Error(ErrorCode::kInput, fmt::format("{}: the model has no experts", name));
  }
  if (options.hidden > 0) model.hidden = options.hidden;
  if (options.intermediate > 0) model.expert_intermediate = options.intermediate;
  if (options.hidden > 0 || options.intermediate > 0) {
    model.name += fmt::format(" at {} x {}", model.hidden, model.expert_intermediate);
  }
  return model;
}

DataType data_type(std::string_view name) {
  if (name == "fp32") return DataType::kFloat32;
  return name == "bf16" ? DataType::kBf16 : DataType::kFp8;
}

template <typename T>
std::vector<T> or_default(const std::vector<T>& given, const std::vector<T>& otherwise) {
  return given.empty() ? otherwise : given;
}

/// The defaults of a CPU are a minute's work, those of a GPU the whole table.
layer_bench::LayerBenchOptions bench_options(const BenchLayerOptions& options) {
  const bool is_cpu = options.device == "cpu";
  layer_bench::LayerBenchOptions bench = options.bench;
  for (const auto& model : or_default(options.models, {kDefaultModel})) {
    bench.models.push_back(load_model(model.string(), options));
  }
  bench.gpus = or_default(options.gpus, or_default(options.virtual_gpus, {8}));
  bench.tokens_per_gpu =
      or_default(options.tokens_per_gpu, is_cpu ? std::vector{1, 8, 32} : bench.tokens_per_gpu);
  bench.replication =
      or_default(options.replication, is_cpu ? std::vector{1.5} : bench.replication);
  const std::vector<std::string> dtypes =
      is_cpu ? or_default(options.dtypes, {"fp32"}) : options.dtypes;
  for (const std::string& dtype : dtypes) bench.dtypes.push_back(data_type(dtype));
  bench.batches = options.batches > 0 ? options.batches : is_cpu ? 2 : bench.batches;
  bench.repeats = options.repeats > 0 ? options.repeats : is_cpu ? 3 : bench.repeats;
  bench.dispatch = dispatch_of(options.dispatch);
  bench.combine =
      options.combine == "reduce-scatter" ? ep::Combine::kReduceScatter : ep::Combine::kAllToAll;
  bench.sharding = options.experts == "ep" ? ep::ExpertSharding::kExpertParallel
                                           : ep::ExpertSharding::kTensorSharded;
  bench.seed = options.seed;
  return bench;
}

std::vector<std::string_view> kernel_names() {
  const auto names = ep::cpu_kernels();
  return {names.begin(), names.end()};
}

std::optional<layer_bench::LayerBenchResult> run_cpu(const BenchLayerOptions& options,
                                                     layer_bench::LayerBenchOptions bench) {
  const std::string transport = transport_of(options);
  if (transport == "local") return layer_bench::bench_on_threads(bench);
  if (transport == "virtual") return layer_bench::bench_in_turn(bench);
  if (options.gpus.empty()) bench.gpus.clear();
  return layer_bench::bench_on_mpi_ranks(std::move(bench));
}

std::optional<layer_bench::LayerBenchResult> run_cuda(const layer_bench::LayerBenchOptions& bench) {
  require_cuda_device();
#if METRO_HAVE_EP_CUDA
  if (const auto ranks = layer_bench::started_ranks(bench.timeout_s)) {
    return layer_bench::speak_in_turn(
        *ranks, [&] { return layer_bench::cuda::run_layer_bench_cuda(bench, ranks.get()); });
  }
  return layer_bench::cuda::run_layer_bench_cuda(bench);
#else
  static_cast<void>(bench);
  return std::nullopt;
#endif
}

void run(const BenchLayerOptions& options) {
  check(options);
  layer_bench::LayerBenchOptions bench = bench_options(options);
  std::optional<RoutingTrace> trace;
  std::vector<std::filesystem::path> inputs;
  if (!options.trace.empty()) {
    trace = io::read_trace(options.trace);
    bench.trace = &*trace;
    inputs = report::trace_files(options.trace);
  }
  for (const auto& model : options.models) {
    if (find_model(model.string()) == nullptr) inputs.push_back(model);
  }
  Progress progress("metro: timing layers");
  bench.progress = [&](std::size_t done, std::size_t total) { progress.show(done, total); };
  const auto result = options.device == "cpu" ? run_cpu(options, bench) : run_cuda(bench);
  if (!result) return;  // rank 0 speaks for all
  progress.wipe();
  print(options.json ? report::to_text(report::layer_bench_result(bench, *result, inputs))
                     : report::layer_bench_table(*result, table_width(options.wide)));
}

}  // namespace

void add_bench_layer(CLI::App& bench) {
  auto options = std::make_shared<BenchLayerOptions>();
  layer_bench::LayerBenchOptions& values = options->bench;
  CLI::App* command =
      add_command(bench, "layer", "Time an expert-parallel MoE layer under every policy", *options);
  const IntRange ranks{.min = 1, .max = 1024};
  add_paths(*command, "--model", options->models,
            "A model's name or its config.json; repeatable (default Qwen3-30B-A3B)");
  CLI::Option* gpus = add_int_list(*command, "--gpus", options->gpus, ranks,
                                   "Ranks that run side by side (mpi: as many as were started)");
  add_int_list(*command, "--virtual-gpus", options->virtual_gpus, ranks,
               "Ranks that take turns on this device (default 8)")
      ->excludes(gpus);
  add_int(
      *command, "--ep", values.ep, {.min = 1, .max = 1024},
      "GPUs that the experts are spread over; each is sharded beyond (CPU ranks; default: all)");
  add_int_list(*command, "--tokens-per-gpu", options->tokens_per_gpu, {.min = 1, .max = 1 << 16},
               "Tokens of a batch per GPU (default 1,8,32; cuda: up to 128)");
  add_real_list(*command, "--replication", options->replication, {.min = 1, .max = 1024},
                "Slots per expert (default 1.5; cuda: 1,1.125,1.25,1.5)");
  add_name(*command, "--algorithm", values.algorithm, algorithm_names(),
           fmt::format("Placement (default {})", values.algorithm));
  add_name_list(*command, "--policy", values.policies, policy_names(),
                fmt::format("Policies (default {}); EPLB off and tensor-sharded experts are "
                            "always beside them",
                            fmt::join(values.policies, ",")));
  add_name(*command, "--dispatch", options->dispatch, kDispatches,
           "How tokens reach their experts (default all-gather)");
  add_name(*command, "--combine", options->combine, kCombines,
           "How they return under all-gather (default reduce-scatter)");
  add_name(*command, "--experts", options->experts, kExperts, "ep, or moe-TP alone (default ep)");
  add_name_list(*command, "--dtype", options->dtypes, kTypes,
                "Weights of the experts (default fp32; cuda: the model's)");
  add_name_list(*command, "--kernel", values.kernels, kernel_names(),
                "CPU kernels to compare (default the best)");
  add_int(*command, "--hidden", options->hidden, {.min = 1, .max = 1 << 16},
          "Instead of the model's hidden size, to fit a small machine");
  add_int(*command, "--intermediate", options->intermediate, {.min = 1, .max = 1 << 16},
          "Instead of the model's expert width");
  CLI::Option* trace = add_path(*command, "--trace", options->trace,
                                "Batches of this trace instead of generated ones");
  add_int(*command, "--layer", values.trace_layer, {.min = 0}, "Layer of the trace (default 0)")
      ->needs(trace);
  add_name(*command, "--device", options->device, kDevices, "cpu or cuda (default cpu)");
  add_name(*command, "--transport", options->transport, kTransports,
           "virtual, local (threads), mpi or nccl (default virtual; with --gpus local)");
  add_real(*command, "--timeout-s", values.timeout_s, {.min = 0.1, .max = 86400},
           "A rank that does not answer for so long ends the run (default 30)");
  add_int(*command, "--batches", options->batches, {.min = 1, .max = 1 << 16},
          "Batches a row (default 2; cuda: 4)");
  add_int(*command, "--repeats", options->repeats, {.min = 1, .max = 1 << 16},
          "Timed runs of a batch (default 3; cuda: 5)");
  add_int(*command, "--threads", values.threads, {.min = 1, .max = 1024},
          "CPU threads of a rank (default its share of the cores)");
  add_real(*command, "--weight-gb", values.weight_gb, {.min = 0.001, .max = 4096},
           "CPU memory for weights; slots share it in turn beyond (default 1)");
  command->footer(
      "Examples: metro bench layer --virtual-gpus 8 --tokens-per-gpu 1,32\n"
      "          mpirun -np 4 metro bench layer --transport mpi --hidden 1024 --json\n"
      "A rank that dies or hangs ends the job: one of the others says so, and they exit with 5;\n"
      "mpirun's own status is that of the rank that died, 137 when it was killed.");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
