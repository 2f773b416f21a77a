// SPDX-License-Identifier: Apache-2.0
// The expert stage against what libraries offer, in one run on one GPU: our kernel, cuBLAS's
// batched and grouped matrix products, and CUTLASS's grouped one where the build has it (CMake's
// METRO_CUTLASS_DIR), over the same activated experts.
//
//     bench_experts [--quick] [PART OF A SHAPE'S NAME]
//
// Times are medians of CUDA graph replays, weights rotated beyond the L2 cache. The libraries get
// their tokens already gathered and their counts from the host, so they are flattered: in a layer
// the counts are on the device. "share" is of the copy bandwidth (read + written) of the same run.
#include <cublas_v2.h>
#include <cuda_bf16.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "bench_experts_timing.cuh"
#include "ep/cuda/expert_stage.hpp"
#include "ep/cuda/slot_table.hpp"
#include "metro/error.hpp"
#if METRO_HAVE_CUTLASS
#include "cutlass_grouped.hpp"
#endif

namespace {

using metro::DataType;
using namespace metro::bench;
using namespace metro::ep::cuda;

void blas_check(cublasStatus_t status) {
  if (status != CUBLAS_STATUS_SUCCESS) {
    throw metro::Error(metro::ErrorCode::kDevice, cublasGetStatusString(status));
  }
}

struct Shape {
  const char* name;
  int hidden;
  int intermediate;  ///< of a shard
  int shards = 1;    ///< of an expert: so many times the experts are activated
};
constexpr Shape kShapes[] = {
    {"Qwen3-30B", 2048, 768},    {"Qwen3-30B/2", 2048, 384, 2},    {"Qwen3-30B/8", 2048, 96, 8},
    {"Qwen3-235B", 4096, 1536},  {"Qwen3-235B/2", 4096, 768, 2},   {"Qwen3-235B/8", 4096, 192, 8},
    {"DeepSeek-V3", 7168, 2048}, {"DeepSeek-V3/2", 7168, 1024, 2}, {"DeepSeek-V3/8", 7168, 256, 8},
};

/// Activated experts with their tokens, and weights for all of them several times over.
class Case {
 public:
  Case(const Shape& shape, DataType weights, const std::vector<int>& counts, cudaStream_t stream)
      : shape_(shape),
        type_(weights),
        counts_(counts),
        stream_(stream),
        active_(static_cast<int>(counts.size())) {
    for (const int count : counts) rows_ += count;
    most_ = *std::max_element(counts.begin(), counts.end());
    const std::size_t value_bytes = weights == DataType::kFp8 ? 1 : 2;
    up_bytes_ = static_cast<std::size_t>(2) * shape.intermediate * shape.hidden * value_bytes;
    down_bytes_ = up_bytes_ / 2;
    const double set_bytes =
        static_cast<double>(active_) * static_cast<double>(up_bytes_ + down_bytes_);
    sets_ = std::clamp(static_cast<int>(std::ceil(4.0 * 60e6 / set_bytes)), 2, 16);
    const std::size_t bytes = static_cast<std::size_t>(sets_ * active_) * (up_bytes_ + down_bytes_);
    weights_ = make_device_array<char>(bytes);
    fill_random<<<1024, 256, 0, stream>>>(reinterpret_cast<std::uint16_t*>(weights_.get()),
                                          bytes / 2, 1);
    tokens_ = make_device_array<Bf16>(static_cast<std::size_t>(std::max(rows_, active_ * most_)) *
                                      shape.hidden);
    fill_random<<<1024, 256, 0, stream>>>(
        reinterpret_cast<std::uint16_t*>(tokens_.get()),
        static_cast<std::size_t>(std::max(rows_, active_ * most_)) * shape.hidden, 2);
    scales_ = upload(std::vector<float>(
        static_cast<std::size_t>(shape.hidden / 128 + 1) * (2 * shape.intermediate / 128 + 2),
        0.01F));
  }

  double bytes() const {
    return static_cast<double>(active_) * static_cast<double>(up_bytes_ + down_bytes_);
  }

  const char* up(int set, int expert) const {
    return weights_.get() +
           static_cast<std::size_t>(set * active_ + expert) * (up_bytes_ + down_bytes_);
  }
  const char* down(int set, int expert) const { return up(set, expert) + up_bytes_; }

  /// NAN for a kernel that does not serve this device. With the quantisation of tokens, where the
  /// kernel has one; without the permutation.
  double ours(int replays, std::string_view kernel) {
    // One "token" for each assignment (topk 1), so that counts are exactly the case's.
    std::optional<ExpertStage> maybe;
    try {
      maybe.emplace(ExpertStageSizes{shape_.hidden, shape_.intermediate, 1, rows_, active_, type_,
                                     0, kernel});
    } catch (const metro::Error&) {
      return NAN;
    }
    ExpertStage& stage = *maybe;
    ExpertStage plain(ExpertStageSizes{shape_.hidden, shape_.intermediate, 1, rows_, active_,
                                       DataType::kBf16, 0, kernel});
    std::vector<std::int32_t> ids;
    for (int e = 0; e < active_; ++e)
      ids.insert(ids.end(), static_cast<std::size_t>(counts_[static_cast<std::size_t>(e)]), e);
    const auto device_ids = upload(ids);
    std::vector<std::unique_ptr<SlotTable>> tables;
    std::vector<Graph> graphs;
    for (int set = 0; set < sets_; ++set) {
      std::vector<ExpertPointers> pointers;
      for (int e = 0; e < active_; ++e) {
        pointers.push_back({up(set, e), down(set, e), scales_.get(), scales_.get()});
      }
      tables.push_back(std::make_unique<SlotTable>(
          WeightShape{shape_.hidden, shape_.intermediate, type_}, active_, 0));
      tables.back()->update({}, pointers, stream_);
    }
    const auto add = [&](bool with_run) {
      for (int set = 0; set < sets_; ++set) {
        graphs.emplace_back(stream_, [&] {
          if (!with_run) return plain.permute(device_ids.get(), tokens_.get(), rows_, 0, stream_);
          stage.permute(device_ids.get(), tokens_.get(), rows_, 0, stream_);
          stage.run(tokens_.get(), tables[static_cast<std::size_t>(set)]->weights(), stream_);
        });
      }
    };
    add(true);
    const double both = median_us(graphs, stream_, replays);
    graphs.clear();
    add(false);
    return both - median_us(graphs, stream_, replays);
  }

  double batched(cublasHandle_t handle, int replays) { return library(handle, replays, false); }
  double grouped(cublasHandle_t handle, int replays) { return library(handle, replays, true); }

  /// NAN in a build without CUTLASS.
  double cutlass(int replays) {
#if METRO_HAVE_CUTLASS
    const int hidden = shape_.hidden;
    const int width = shape_.intermediate;
    const auto rows = static_cast<std::size_t>(rows_);
    auto gate_up = make_device_array<Bf16>(rows * 2 * width);
    auto activation = make_device_array<Bf16>(rows * width);
    auto out = make_device_array<Bf16>(rows * hidden);
    std::vector<CutlassGrouped> products;  // of each set the first, then the second
    for (int set = 0; set < sets_; ++set) {
      std::vector<const void*> x[2];
      std::vector<const void*> w[2];
      std::vector<void*> y[2];
      std::size_t row = 0;
      for (int e = 0; e < active_; ++e) {
        x[0].push_back(tokens_.get() + row * hidden);
        w[0].push_back(up(set, e));
        y[0].push_back(gate_up.get() + row * 2 * width);
        x[1].push_back(activation.get() + row * width);
        w[1].push_back(down(set, e));
        y[1].push_back(out.get() + row * hidden);
        row += static_cast<std::size_t>(counts_[static_cast<std::size_t>(e)]);
      }
      products.emplace_back(counts_, 2 * width, hidden, x[0], w[0], y[0]);
      products.emplace_back(counts_, hidden, width, x[1], w[1], y[1]);
    }
    std::vector<Graph> graphs;
    for (std::size_t set = 0; set < products.size(); set += 2) {
      graphs.emplace_back(stream_, [&] {
        products[set].run(stream_);
        swiglu<<<264, 256, 0, stream_>>>(gate_up.get(), activation.get(), rows_, width);
        products[set + 1].run(stream_);
      });
    }
    return median_us(graphs, stream_, replays);
#else
    static_cast<void>(replays);
    return NAN;
#endif
  }

 private:
  double library(cublasHandle_t handle, int replays, bool grouped) {
    const int hidden = shape_.hidden;
    const int width = shape_.intermediate;
    const int all = active_ * most_;
    auto gate_up = make_device_array<Bf16>(static_cast<std::size_t>(all) * 2 * width);
    auto activation = make_device_array<Bf16>(static_cast<std::size_t>(all) * width);
    auto out = make_device_array<Bf16>(static_cast<std::size_t>(all) * hidden);
    const float one = 1;
    const float zero = 0;
    const std::vector<float> ones(static_cast<std::size_t>(active_), 1.0F);
    const std::vector<float> zeros(static_cast<std::size_t>(active_), 0.0F);
    const std::vector<cublasOperation_t> transpose(static_cast<std::size_t>(active_), CUBLAS_OP_T);
    const std::vector<cublasOperation_t> plain(static_cast<std::size_t>(active_), CUBLAS_OP_N);
    const std::vector<int> each(static_cast<std::size_t>(active_), 1);
    const auto repeat = [&](int value) {
      return std::vector<int>(static_cast<std::size_t>(active_), value);
    };
    std::vector<DeviceArray<const void*>> keep;
    std::vector<Graph> graphs;
    blas_check(cublasSetStream(handle, stream_));
    for (int set = 0; set < sets_; ++set) {
      std::vector<const void*> pointers[6];
      int row = 0;
      for (int e = 0; e < active_; ++e) {
        const std::size_t at = static_cast<std::size_t>(grouped ? row : e * most_);
        pointers[0].push_back(up(set, e));
        pointers[1].push_back(tokens_.get() + at * hidden);
        pointers[2].push_back(gate_up.get() + at * 2 * width);
        pointers[3].push_back(down(set, e));
        pointers[4].push_back(activation.get() + at * width);
        pointers[5].push_back(out.get() + at * hidden);
        row += counts_[static_cast<std::size_t>(e)];
      }
      const void* const* arrays[6];
      for (int i = 0; i < 6; ++i) {
        keep.push_back(upload(pointers[i]));
        arrays[i] = keep.back().get();
      }
      const auto multiply = [&](int first, int features, int depth) {
        void* const* to = const_cast<void* const*>(arrays[first + 2]);
        if (grouped) {
          blas_check(cublasGemmGroupedBatchedEx(
              handle, transpose.data(), plain.data(), repeat(features).data(), counts_.data(),
              repeat(depth).data(), ones.data(), arrays[first], CUDA_R_16BF, repeat(depth).data(),
              arrays[first + 1], CUDA_R_16BF, repeat(depth).data(), zeros.data(), to, CUDA_R_16BF,
              repeat(features).data(), active_, each.data(), CUBLAS_COMPUTE_32F));
        } else {
          blas_check(cublasGemmBatchedEx(handle, CUBLAS_OP_T, CUBLAS_OP_N, features, most_, depth,
                                         &one, arrays[first], CUDA_R_16BF, depth, arrays[first + 1],
                                         CUDA_R_16BF, depth, &zero, to, CUDA_R_16BF, features,
                                         active_, CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT));
        }
      };
      graphs.emplace_back(stream_, [&] {
        multiply(0, 2 * width, hidden);
        swiglu<<<264, 256, 0, stream_>>>(gate_up.get(), activation.get(), grouped ? rows_ : all,
                                         width);
        multiply(3, hidden, width);
      });
    }
    return median_us(graphs, stream_, replays);
  }

  Shape shape_;
  DataType type_;
  std::vector<int> counts_;
  cudaStream_t stream_;
  int active_;
  int rows_ = 0;
  int most_ = 0;
  int sets_ = 0;
  std::size_t up_bytes_ = 0;
  std::size_t down_bytes_ = 0;
  DeviceArray<char> weights_;
  DeviceArray<Bf16> tokens_;
  DeviceArray<float> scales_;
};

int run(bool quick, std::string_view only) {
  const int replays = quick ? 21 : 101;
  Stream stream;
  cublasHandle_t handle = nullptr;
  blas_check(cublasCreate(&handle));
  auto workspace = make_device_array<char>(std::size_t{64} << 20);
  blas_check(cublasSetWorkspace(handle, workspace.get(), std::size_t{64} << 20));
  const double copy = copy_gb_s(stream);
  std::printf("copy %.0f GB/s\n%-14s %-5s %9s %-9s %9s %9s %9s %9s %9s %7s\n", copy, "shape",
              "dtype", "activated", "tokens", "hopper", "portable", "batched", "grouped", "cutlass",
              "share");
  for (const Shape& shape : kShapes) {
    if (std::string_view(shape.name).find(only) == std::string_view::npos) continue;
    for (const DataType type : {DataType::kBf16, DataType::kFp8}) {
      for (const int activated : quick ? std::vector{1, 16} : std::vector{1, 4, 8, 16, 32}) {
        const int active = activated * shape.shards;
        for (const int tokens : {1, 4, 8, 16, 32, 64, 128, 256, -1}) {
          if (quick && (shape.shards > 2 || tokens == 1 || tokens == 8 || tokens == 16)) continue;
          std::vector<int> counts(static_cast<std::size_t>(active), std::max(tokens, 1));
          if (tokens < 0) counts[0] = 128;  // skewed: one hot expert
          Case item(shape, type, counts, stream);
          const double hopper = item.ours(replays, "hopper");
          const double portable = item.ours(replays, "portable");
          const bool both = type == DataType::kBf16;
          const double batched = both ? item.batched(handle, replays) : NAN;
          const double grouped = both ? item.grouped(handle, replays) : NAN;
          const double cutlass = both ? item.cutlass(replays) : NAN;
          const double best = std::fmin(hopper, portable);
          std::printf("%-14s %-5s %9d %-9s %9.1f %9.1f %9.1f %9.1f %9.1f %6.0f%%\n", shape.name,
                      both ? "bf16" : "fp8", active,
                      tokens < 0 ? "1+hot128" : std::to_string(tokens).c_str(), hopper, portable,
                      batched, grouped, cutlass, 100.0 * item.bytes() / best * 1e-3 / copy);
          std::fflush(stdout);
        }
      }
    }
  }
  cublasDestroy(handle);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  bool quick = false;
  std::string_view only;
  for (int i = 1; i < argc; ++i) {
    if (std::strcmp(argv[i], "--quick") == 0) {
      quick = true;
    } else {
      only = argv[i];
    }
  }
  try {
    return run(quick, only);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "bench_experts: %s\n", error.what());
    return 5;
  }
}
