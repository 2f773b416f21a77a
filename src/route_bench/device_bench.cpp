// SPDX-License-Identifier: Apache-2.0
#include "route_bench/device_bench.hpp"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "core/replica_index.hpp"
#include "cuda/check.hpp"
#include "cuda/device_memory.hpp"
#include "cuda/device_name.hpp"
#include "cuda/layer_table.hpp"
#include "metro/cuda/router.hpp"
#include "metro/error.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "replay/synthetic_batches.hpp"
#include "route_bench/call_timer.hpp"
#include "route_bench/exchange_timing.hpp"
#include "route_bench/rival_kernels.hpp"
#if METRO_HAVE_NCCL
#include "metro/cuda/nccl_exchange.hpp"
#endif

namespace metro::route_bench {
namespace {

constexpr int kInputs = 16;  // batches that take turns

constexpr auto kShapes = std::to_array<DeviceRouteShape>({{128, 8, 192, 256, 8},
                                                          {256, 8, 384, 256, 8},
                                                          {256, 16, 384, 32, 8},
                                                          {256, 16, 384, 256, 8},
                                                          {256, 16, 384, 1024, 8},
                                                          {256, 32, 384, 256, 8},
                                                          {384, 32, 480, 256, 8},
                                                          {512, 32, 768, 512, 10},
                                                          {256, 64, 512, 256, 8}});

std::size_t at(int index) noexcept { return static_cast<std::size_t>(index); }

/// One shape with its batches on the device.
class Case {
 public:
  Case(const DeviceRouteShape& shape, bool skewed, const DeviceBenchOptions& options)
      : shape_(shape), input_(skewed ? "skewed" : "uniform") {
    const std::vector<double> skewed_loads = lognormal_loads(shape.experts, options.seed);
    const std::vector<double> loads =
        skewed ? skewed_loads : std::vector<double>(at(shape.experts), 1.0);
    placement_ = place({1, shape.experts, loads},
                       {.num_replicas = shape.replicas, .num_gpus = shape.gpus}, options.algorithm);
    std::vector<std::int32_t> ids;
    batches_ = draw_batches(loads, shape.tokens, shape.topk, kInputs, options.seed);
    for (const TopkBatch& batch : batches_) {
      ids.insert(ids.end(), batch.ids.begin(), batch.ids.end());
    }
    const std::vector<std::int64_t> wide(ids.begin(), ids.end());
    ids_ = cuda::upload(ids);
    wide_ids_ = cuda::upload(wide);
    replicas_ = cuda::make_device_array<std::int32_t>(ids.size());
    wide_replicas_ = cuda::make_device_array<std::int64_t>(ids.size());
    counts_ = cuda::make_device_array<std::int32_t>(2 * kInputs + kCountWords);
  }

  void measure(std::vector<DeviceRouteRow>& rows, bool exchange) {
    add(rows, "empty kernel", [](int, cudaStream_t stream) { launch_empty(32, stream); });
    add(rows, "copy of ids", [this](int i, cudaStream_t stream) {
      launch_copy(ids(i), replicas(i), num_ids(), stream);
    });
    add_stock(rows);
    for (const PolicyInfo& policy : policies()) {
      if (policy.device) add_policy(rows, policy.name);
    }
    add_variants(rows);
    if (!exchange) return;
    for (const int ranks : {1, 2, 4, 8}) add_exchange(rows, ranks);
#if METRO_HAVE_NCCL
    add_nccl_exchange(rows);
#endif
    add_exchange_between_gpus(rows);
  }

 private:
  static constexpr int kCountWords = 2 * cuda::kMaxRouterReplicas;

  [[nodiscard]] int num_ids() const { return shape_.tokens * shape_.topk; }
  [[nodiscard]] std::int32_t* ids(int i) const { return ids_.get() + at(i) * at(num_ids()); }
  [[nodiscard]] std::int32_t* replicas(int i) const {
    return replicas_.get() + at(i) * at(num_ids());
  }

  [[nodiscard]] cuda::Router router(std::string_view policy, bool programmatic = false) const {
    return cuda::Router(placement_, {.policy = policy,
                                     .max_tokens = shape_.tokens,
                                     .topk = shape_.topk,
                                     .programmatic_launch = programmatic});
  }

  DeviceRouteRow& add(std::vector<DeviceRouteRow>& rows, const std::string& kernel,
                      const Call& call) {
    rows.push_back({shape_, input_, kernel, time_us({call}, kInputs)});
    return rows.back();
  }

  void add_stock(std::vector<DeviceRouteRow>& rows) {
    const ReplicaIndex index(placement_.layers[0]);
    std::size_t most = 0;
    for (int e = 0; e < shape_.experts; ++e) most = std::max(most, index.replicas(e).size());
    std::vector<std::int32_t> counts;
    std::vector<std::int32_t> map(at(shape_.experts) * most, -1);
    for (int e = 0; e < shape_.experts; ++e) {
      counts.push_back(static_cast<std::int32_t>(index.replicas(e).size()));
      std::ranges::copy(index.replicas(e), map.begin() + static_cast<std::ptrdiff_t>(at(e) * most));
    }
    const auto device_counts = cuda::upload(counts);
    const auto device_map = cuda::upload(map);
    const StockTable table{device_counts.get(), device_map.get(), shape_.experts,
                           static_cast<int>(most)};
    add(rows, "stock hash", [&](int i, cudaStream_t stream) {
      launch_stock_hash(table, ids(i), replicas(i), num_ids(), shape_.topk, stream);
    });
  }

  void add_policy(std::vector<DeviceRouteRow>& rows, std::string_view policy) {
    cuda::Router router = this->router(policy);
    DeviceRouteRow& row = add(rows, std::string(policy), [&](int i, cudaStream_t stream) {
      router.route(0, ids(i), shape_.tokens, replicas(i), stream);
    });
    const BenchStream stream;
    for (int i = 0; i < kInputs; ++i) {
      cuda::RouteExtras extras;
      extras.max_activated = counts_.get() + i;
      extras.num_moves = counts_.get() + kInputs + i;
      router.route(0, ids(i), shape_.tokens, replicas(i), stream.get(), extras);
    }
    std::array<std::int32_t, std::size_t{2} * kInputs> counts{};
    METRO_CUDA_CHECK(cudaStreamSynchronize(stream.get()));
    METRO_CUDA_CHECK(
        cudaMemcpy(counts.data(), counts_.get(), sizeof counts, cudaMemcpyDeviceToHost));
    for (int i = 0; i < kInputs; ++i) {
      row.max_activated += static_cast<double>(counts[at(i)]) / kInputs;
      if (row.kernel == kOptimalPolicy)
        row.moves += static_cast<double>(counts[at(kInputs + i)]) / kInputs;
    }
  }

  void add_variants(std::vector<DeviceRouteRow>& rows) {
    cuda::Router router = this->router(kOptimalPolicy);
    add_unsolved(rows);
    add(rows, "optimal, int64 ids", [&](int i, cudaStream_t stream) {
      const std::size_t offset = at(i) * at(num_ids());
      router.route(0, wide_ids_.get() + offset, shape_.tokens, wide_replicas_.get() + offset,
                   stream);
    });
    add(rows, "optimal, token counts", [&](int i, cudaStream_t stream) {
      cuda::RouteExtras extras;
      extras.max_activated = counts_.get() + i;
      extras.tokens_per_replica = counts_.get() + std::size_t{2} * kInputs;
      extras.accumulate_tokens = true;
      router.route(0, ids(i), shape_.tokens, replicas(i), stream, extras);
    });
    for (const std::string_view policy : {kHashPolicy, kOptimalPolicy}) {
      cuda::Router early = this->router(policy, true);
      add(rows, fmt::format("{}, programmatic launch", policy), [&](int i, cudaStream_t stream) {
        early.route(0, ids(i), shape_.tokens, replicas(i), stream);
      });
    }
  }

  void add_unsolved(std::vector<DeviceRouteRow>& rows) {
    const cuda::TableLayout layout = cuda::table_layout(
        cuda::DevicePolicy::kOptimal, shape_.experts, shape_.gpus, shape_.replicas);
    std::vector<std::uint32_t> words(at(layout.total_words));
    cuda::build_layer_table(placement_.layers[0], cuda::DevicePolicy::kOptimal, layout, words);
    const auto table = cuda::upload(words);
    cuda::ActiveParams params;
    params.table = {table.get(), layout};
    params.batch.num_ids = num_ids();
    params.batch.topk = shape_.topk;
    params.batch.vectorised = true;
    if (layout.mask_words != 8 || layout.num_gpus > 32) return;
    add(rows, "optimal, unsolved", [&](int i, cudaStream_t stream) {
      params.batch.ids = ids(i);
      params.batch.replicas = replicas(i);
      launch_without_solving(params, stream);
    });
  }

  /// The batch's tokens shared out over ranks on this GPU.
  void add_exchange(std::vector<DeviceRouteRow>& rows, int ranks) {
    if (shape_.tokens % (4 * ranks) != 0) return;
    const int tokens = shape_.tokens / ranks;
    std::vector<cuda::Router> routers;
    std::vector<std::unique_ptr<cuda::PeerExchange>> exchanges;
    std::vector<cuda::PeerHandle> handles;
    for (int r = 0; r < ranks; ++r) {
      routers.push_back(router(kOptimalPolicy));
      exchanges.push_back(std::make_unique<cuda::PeerExchange>(r, ranks));
      handles.push_back(exchanges.back()->handle());
    }
    std::vector<Call> calls;
    for (int r = 0; r < ranks; ++r) {
      exchanges[at(r)]->connect(handles);
      calls.emplace_back([&, r, tokens](int i, cudaStream_t stream) {
        cuda::RouteExtras extras;
        extras.exchange = exchanges[at(r)].get();
        const std::size_t offset = at(r) * at(tokens) * at(shape_.topk);
        routers[at(r)].route(0, ids(i) + offset, tokens, replicas(i) + offset, stream, extras);
      });
    }
    rows.push_back({shape_, input_, fmt::format("optimal, exchange of {} on one GPU", ranks),
                    time_us(calls, kInputs)});
    const auto counters = exchanges[0]->counters();
    if (counters.timeouts > 0)
      rows.back().kernel += fmt::format(" ({} time-outs)", counters.timeouts);
  }

  /// Of 2, 4, ... GPUs, a rank each, as far as there are so many.
  void add_exchange_between_gpus(std::vector<DeviceRouteRow>& rows) {
    int visible = 0;
    METRO_CUDA_CHECK(cudaGetDeviceCount(&visible));
    for (int gpus = 2; gpus <= visible; gpus *= 2) {
      if (shape_.tokens % (4 * gpus) != 0) continue;
      const ExchangeTimes times = time_exchanges(placement_, batches_, gpus);
      const std::string lost =
          times.timeouts > 0 ? fmt::format(" ({} time-outs)", times.timeouts) : "";
      rows.push_back({shape_, input_, fmt::format("optimal, peer exchange, {} GPUs{}", gpus, lost),
                      times.peer_us});
      if (times.nccl_us > 0) {
        rows.push_back(
            {shape_, input_, fmt::format("optimal, NCCL exchange, {} GPUs", gpus), times.nccl_us});
      }
    }
  }

#if METRO_HAVE_NCCL
  /// A world of one, as far as one process on one GPU can go: NCCL's fixed cost, no wire.
  void add_nccl_exchange(std::vector<DeviceRouteRow>& rows) {
    ncclComm_t communicator = nullptr;
    const int device = 0;
    if (const ncclResult_t result = ncclCommInitAll(&communicator, 1, &device);
        result != ncclSuccess) {
      throw Error(ErrorCode::kDevice, fmt::format("NCCL: {}", ncclGetErrorString(result)));
    }
    const std::unique_ptr<ncclComm, decltype(&ncclCommDestroy)> owner(communicator,
                                                                      ncclCommDestroy);
    cuda::Router optimal = router(kOptimalPolicy);
    cuda::NcclExchange exchange(communicator);
    add(rows, "optimal, NCCL exchange, world of 1", [&](int i, cudaStream_t stream) {
      cuda::RouteExtras extras;
      extras.exchange = &exchange;
      optimal.route(0, ids(i), shape_.tokens, replicas(i), stream, extras);
    });
  }
#endif

  DeviceRouteShape shape_;
  std::string input_;
  Placement placement_;
  std::vector<TopkBatch> batches_;
  cuda::DeviceArray<std::int32_t> ids_;
  cuda::DeviceArray<std::int64_t> wide_ids_;
  cuda::DeviceArray<std::int32_t> replicas_;
  cuda::DeviceArray<std::int64_t> wide_replicas_;
  cuda::DeviceArray<std::int32_t> counts_;
};

}  // namespace

std::vector<DeviceRouteRow> bench_device_routes(
    const DeviceBenchOptions& options,
    const std::function<void(std::size_t, std::size_t)>& progress) {
  static_cast<void>(cuda::device_name());  // throws where there is no GPU
  std::vector<DeviceRouteRow> rows;
  for (std::size_t i = 0; i < kShapes.size(); ++i) {
    for (const bool skewed : {false, true}) {
      Case(kShapes[i], skewed, options).measure(rows, options.exchange && skewed);
    }
    if (progress) progress(i + 1, kShapes.size());
  }
  return rows;
}

}  // namespace metro::route_bench
