// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <array>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "command.hpp"
#include "io/file_bytes.hpp"
#include "io/npy.hpp"
#include "io/parse.hpp"
#include "metro/convert.hpp"
#include "metro/error.hpp"
#include "metro/io.hpp"
#include "metro/placement.hpp"
#include "metro/trace_generator.hpp"
#include "options.hpp"
#include "output.hpp"
#include "report/result.hpp"
#include "trace_command.hpp"

namespace metro::cli {
namespace {

constexpr std::array<std::string_view, 8> kTypes = {"u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8"};

struct TraceConvertOptions : CommonOptions {
  std::filesystem::path input;
  std::filesystem::path output;
  TraceInfo info;
  std::int64_t sequence_length = 0;  // 0: all tokens are one sequence
  std::string dtype;                 // raw arrays only
  std::vector<int> shape;            // tokens, layers, topk; empty: not given
  bool layers_first = false;         // arrays only
};

enum class Format { kNpy, kCsv, kRaw };

std::string_view to_string(Format format) {
  switch (format) {
    case Format::kNpy:
      return "npy";
    case Format::kCsv:
      return "csv";
    default:
      return "raw";
  }
}

/// By the opening bytes for `.npy`, by the name for CSV; anything else is an array without a
/// header.
Format recognise(const std::filesystem::path& path, io::Bytes bytes) {
  if (io::is_npy(bytes)) return Format::kNpy;
  const std::filesystem::path extension = path.extension();
  return extension == ".csv" || extension == ".txt" ? Format::kCsv : Format::kRaw;
}

/// Options that say what the file says itself would be ignored: better refused.
void check_layout(const TraceConvertOptions& options, Format format) {
  const auto fail = [&](std::string_view message) {
    throw Error(ErrorCode::kInput, fmt::format("{}: {}", options.input.string(), message));
  };
  if (format == Format::kRaw) {
    if (options.dtype.empty() || options.shape.empty()) {
      fail("is neither .npy nor .csv; an array without a header needs --dtype and --shape");
    }
  } else if (!options.dtype.empty()) {
    fail(fmt::format("is {}, --dtype is for arrays without a header", to_string(format)));
  } else if (format == Format::kCsv && options.layers_first) {
    fail("is csv, --layers-first is for arrays");
  }
}

/// No model has as many MoE layers as this; a `.npy` that says so, and of fewer tokens, probably
/// has its layers first. Only the asker knows.
constexpr int kManyLayers = 256;

void check_not_swapped(const TraceConvertOptions& options, const RoutingTrace& trace) {
  if (!options.shape.empty() || trace.num_layers() <= kManyLayers ||
      trace.num_tokens() >= trace.num_layers()) {
    return;
  }
  throw Error(
      ErrorCode::kInput,
      fmt::format("{0}: reads as {1} tokens x {2} layers; if it is {1} layers x {2} tokens, "
                  "give --layers-first, else --shape {1},{2},{3}",
                  options.input.string(), trace.num_tokens(), trace.num_layers(), trace.topk()));
}

/// A `.npy` [layers, tokens, topk]: what follows its header is such an array without one.
RoutingTrace parse_layers_first(const std::shared_ptr<const io::FileBytes>& file,
                                const std::string& name, const TraceInfo& info) {
  const io::NpyArray array = io::parse_npy(file->bytes(), name);
  io::require_integers(array, name);
  io::require_dims(array, 3, "(layers, tokens, topk)", name);
  io::RawLayout layout;
  layout.order = io::RawLayout::Order::kLayersFirst;
  layout.dtype =
      fmt::format("{}{}{}", array.type.bytes == 1 ? '|' : '<', array.type.kind, array.type.bytes);
  const auto fits = [](std::int64_t size) { return size >= 1 && size <= kMaxReplicas; };
  if (!fits(array.shape[0]) || array.shape[1] < 1 || !fits(array.shape[2])) {
    throw Error(
        ErrorCode::kInput,
        fmt::format("{}: shape is {}, each dimension must be at least 1, layers and topk at "
                    "most {}",
                    name, io::shape_text(array.shape), kMaxReplicas));
  }
  layout.num_layers = static_cast<int>(array.shape[0]);
  layout.topk = static_cast<int>(array.shape[2]);
  const auto offset = static_cast<std::size_t>(array.data - file->bytes().data());
  return io::parse_raw_trace(file, file->bytes().subspan(offset), layout, info, name);
}

/// Without a sidecar of its own a `.npy` gets one from the command line.
std::string sidecar_text(const TraceInfo& info) {
  nlohmann::json json = {{"num_experts", info.num_experts},
                         {"phase", info.phase},
                         {"model", info.model},
                         {"source", info.source},
                         {"licence", info.licence}};
  if (!info.sequence_lengths.empty()) json["sequence_lengths"] = info.sequence_lengths;
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

RoutingTrace parse(const TraceConvertOptions& options, Format format,
                   const std::shared_ptr<const io::FileBytes>& file, const TraceInfo& info) {
  const std::string name = options.input.string();
  const int layers = options.shape.empty() ? 0 : options.shape[1];
  const int topk = options.shape.empty() ? 0 : options.shape[2];
  if (format == Format::kNpy && options.layers_first) {
    return parse_layers_first(file, name, info);
  }
  if (format == Format::kNpy) {
    const std::string text = sidecar_text(info);
    return io::parse_trace(file, file->bytes(), name,
                           [&]() -> io::NamedText { return {text, name}; });
  }
  if (format == Format::kCsv) {
    return io::parse_csv_trace(io::as_text(file->bytes()), {layers, topk}, info, name);
  }
  io::RawLayout layout;
  layout.dtype = (options.dtype.back() == '1' ? "|" : "<") + options.dtype;
  layout.order = options.layers_first ? io::RawLayout::Order::kLayersFirst
                                      : io::RawLayout::Order::kTokensFirst;
  layout.num_layers = layers;
  layout.topk = topk;
  return io::parse_raw_trace(file, file->bytes(), layout, info, name);
}

void check_shape(const TraceConvertOptions& options, const RoutingTrace& trace) {
  if (options.shape.empty()) return;
  const auto& shape = options.shape;
  if (trace.num_tokens() == shape[0] && trace.num_layers() == shape[1] &&
      trace.topk() == shape[2]) {
    return;
  }
  throw Error(ErrorCode::kInput,
              fmt::format("{}: holds {} tokens x {} layers x {} ids, but --shape says {},{},{}",
                          options.input.string(), trace.num_tokens(), trace.num_layers(),
                          trace.topk(), shape[0], shape[1], shape[2]));
}

/// The trace with what only the command line knows of it. Ids are read twice when sequences are
/// given by length: how many there are shows only then.
RoutingTrace read(const TraceConvertOptions& options, Format format,
                  const std::shared_ptr<const io::FileBytes>& file) {
  RoutingTrace trace = parse(options, format, file, options.info);
  check_shape(options, trace);
  if (format == Format::kNpy && !options.layers_first) check_not_swapped(options, trace);
  if (options.sequence_length == 0) return trace;
  TraceInfo info = options.info;
  info.sequence_lengths = equal_sequences(trace.num_tokens(), options.sequence_length);
  return parse(options, format, file, info);
}

void run(const TraceConvertOptions& options) {
  check_trace_name(options.output);
  if (!options.shape.empty() && options.shape.size() != 3) {
    throw Error(ErrorCode::kUsage, fmt::format("--shape has {} numbers, must be tokens,layers,topk",
                                               options.shape.size()));
  }
  const auto file = std::make_shared<const io::FileBytes>(options.input);
  const Format format = recognise(options.input, file->bytes());
  check_layout(options, format);
  const RoutingTrace trace = read(options, format, file);
  auto result = report::make_result("trace convert", report::Evidence::kMeasured, options.seed,
                                    {options.input});
  result["output"] = options.output.string();
  result["from"] = to_string(format);
  result["phase"] = trace.info().phase;
  result["tokens"] = trace.num_tokens();
  result["layers"] = trace.num_layers();
  result["topk"] = trace.topk();
  result["experts"] = trace.num_experts();
  result["sequences"] = trace.info().sequence_lengths.size();
  io::write_trace(trace, options.output);
  print(options.json
            ? report::to_text(result)
            : fmt::format("{}: {} tokens x {} layers, top-{} of {} experts, {} sequences\n",
                          options.output.string(), trace.num_tokens(), trace.num_layers(),
                          trace.topk(), trace.num_experts(), trace.info().sequence_lengths.size()));
}

}  // namespace

void add_trace_convert(CLI::App& trace) {
  auto options = std::make_shared<TraceConvertOptions>();
  options->info.phase = "decode";
  CLI::App* command = add_command(
      trace, "convert", "Make a routing trace of a raw array, a CSV file or a bare .npy", *options);
  add_path(
      *command, "INPUT", options->input,
      "A .npy [tokens, layers, topk], a .csv (token,layer,k,expert, or a row per token), or an "
      "array without a header")
      ->required();
  add_path(*command, "-o,--output", options->output, "Trace to write (.npy, and its .json)")
      ->required();
  add_int(*command, "--num-experts", options->info.num_experts, {.min = 1, .max = kMaxExperts},
          "Experts of a layer")
      ->required();
  add_name(*command, "--phase", options->info.phase, kPhases, "Phase (default decode)");
  add_int64(*command, "--sequence-length", options->sequence_length, {.min = 1},
            "Tokens of each sequence, the last may be shorter (default: all are one sequence)");
  add_name(*command, "--dtype", options->dtype, kTypes,
           "Little-endian integers of an array without a header");
  add_int_list(
      *command, "--shape", options->shape, {.min = 1},
      "tokens,layers,topk; needed for an array without a header, and for a CSV file without "
      "one to cut rows into layers");
  command->add_flag("--layers-first", options->layers_first,
                    "The array (.npy, or without a header) is [layers, tokens, topk]");
  command->add_option("--model", options->info.model, "What made the trace, to note");
  command->add_option("--source", options->info.source, "Where it is from, to note");
  command->add_option("--licence", options->info.licence, "Its licence, to note");
  command->footer(
      "Example: metro trace convert routed.bin --dtype i4 --shape 4096,58,8 --num-experts 256 "
      "--sequence-length 64 -o decode.npy");
  command->callback([options] { run(*options); });
}

}  // namespace metro::cli
