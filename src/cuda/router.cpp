// SPDX-License-Identifier: Apache-2.0
#include "metro/cuda/router.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "cuda/check.hpp"
#include "cuda/device_memory.hpp"
#include "cuda/kernel_params.hpp"
#include "cuda/launch.hpp"
#include "cuda/layer_table.hpp"

namespace metro::cuda {
namespace {

constexpr int kMaxTokens = 65536;
constexpr int kMaxTopk = 32;
constexpr int kMinActiveThreads = 256;
constexpr int kMaxMapBlocks = 1024;

std::size_t at(int index) noexcept { return static_cast<std::size_t>(index); }
int divide_up(int value, int divisor) noexcept { return (value + divisor - 1) / divisor; }

bool is_aligned(const void* pointer) noexcept {
  return reinterpret_cast<std::uintptr_t>(pointer) % 16 == 0;
}

Batch batch_of(const void* ids, void* replicas, bool wide) noexcept {
  Batch batch;
  batch.ids = ids;
  batch.replicas = replicas;
  batch.wide = wide;
  return batch;
}

void check_options(const RouterOptions& options) {
  if (options.max_tokens < 0 || options.max_tokens > kMaxTokens) {
    throw Error(ErrorCode::kUsage,
                fmt::format("max_tokens {} is not in 0..{}", options.max_tokens, kMaxTokens));
  }
  if (options.topk < 1 || options.topk > kMaxTopk) {
    throw Error(ErrorCode::kUsage, fmt::format("topk {} is not in 1..{}", options.topk, kMaxTopk));
  }
}

TableLayout layout_for(const Placement& placement, const RouterOptions& options,
                       DevicePolicy policy) {
  placement.validate();
  if (placement.layers.empty()) throw Error(ErrorCode::kInput, "placement has no layers");
  int replicas = options.max_replicas;
  for (const LayerPlacement& layer : placement.layers) {
    if (options.max_replicas == 0) replicas = std::max(replicas, layer.num_replicas());
  }
  const auto limit = [](const char* what, int value, int most) {
    if (value <= most) return;
    throw Error(
        ErrorCode::kInfeasible,
        fmt::format("placement has {} {}, the GPU router takes up to {}", value, what, most));
  };
  limit("experts", placement.num_experts, kMaxRouterExperts);
  limit("GPUs", placement.num_gpus, kMaxRouterGpus);
  limit("replicas", replicas, kMaxRouterReplicas);
  return table_layout(policy, placement.num_experts, placement.num_gpus, replicas);
}

void check_engine(DevicePolicy policy, const Batch& batch, const RouteExtras& extras) {
  if (!needs_active_experts(policy)) {
    throw Error(ErrorCode::kUsage, "only optimal, metro and metro-paper serve by an engine's maps");
  }
  if (extras.exchange != nullptr || extras.tokens_per_replica != nullptr) {
    throw Error(ErrorCode::kUsage,
                "an engine's maps go without an exchange and without tokens_per_replica");
  }
  if (batch.ids == batch.replicas && batch.ids != nullptr) {
    throw Error(ErrorCode::kUsage, "with an engine's maps replica_ids must not be topk_ids");
  }
}

struct DestroyEvent {
  void operator()(cudaEvent_t event) const noexcept { cudaEventDestroy(event); }
};
using Event = std::unique_ptr<std::remove_pointer_t<cudaEvent_t>, DestroyEvent>;

Event make_event() {
  cudaEvent_t event = nullptr;
  METRO_CUDA_CHECK(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
  return Event(event);
}

/// Device memory that every call uses and leaves as it found it.
struct Workspace {
  std::uint32_t marks[kMaxMessageWords];
  unsigned int ticket;
  std::uint32_t gathered[kMaxRanks * kMaxMessageWords];
  std::int32_t histograms[kEvenMaxChunks * kMaxRouterExperts];
  std::uint8_t seen[kMaxRouterReplicas];
};
static_assert(sizeof(Workspace) <= 1 << 20);

}  // namespace

struct Router::Impl {
  Impl(const Placement& placement, const RouterOptions& options);

  void route(int layer, Batch batch, int num_tokens, cudaStream_t stream,
             const RouteExtras& extras);
  void route_active(const TableView& table, const Batch& batch, Counts counts, cudaStream_t stream,
                    const RouteExtras& extras);
  void route_tokens(const TableView& table, const Batch& batch, Counts counts, cudaStream_t stream);
  void route_even(const TableView& table, const Batch& batch, Counts counts, cudaStream_t stream);
  void update(int layer, const LayerPlacement& placement, cudaStream_t stream);

  [[nodiscard]] std::span<std::uint32_t> staging(int layer) const {
    return {staging_.get() + at(layer) * at(layout_.total_words), at(layout_.total_words)};
  }
  [[nodiscard]] std::uint32_t* table(int layer) const {
    return tables_.get() + at(layer) * at(layout_.total_words);
  }

  DevicePolicy policy_;
  TableLayout layout_;
  int num_layers_;
  int max_tokens_;
  int topk_;
  bool early_launch_;
  DeviceArray<std::uint32_t> tables_;   // [layers][total_words]
  PinnedArray<std::uint32_t> staging_;  // the same, on the host: what an update is copied from
  std::vector<Event> copied_;           // [layers] the last copy from staging
  DeviceArray<Workspace> workspace_;

  Kernel active_[2];  // holding 4 and 16 ids per thread
  Kernel engine_[2];  // the same
  Kernel map_;
  Kernel even_count_;
  Kernel even_map_;
  Kernel mark_;
  Kernel exchange_;
  Kernel count_;
};

Router::Impl::Impl(const Placement& placement, const RouterOptions& options)
    : policy_(device_policy(options.policy)),
      num_layers_(static_cast<int>(placement.layers.size())),
      max_tokens_(options.max_tokens),
      topk_(options.topk),
      early_launch_(options.programmatic_launch) {
  check_options(options);
  layout_ = layout_for(placement, options, policy_);
  const auto words = at(num_layers_) * at(layout_.total_words);
  tables_ = make_device_array<std::uint32_t>(words);
  staging_ = make_pinned_array<std::uint32_t>(words);
  workspace_ = make_device_array<Workspace>(1);
  for (int layer = 0; layer < num_layers_; ++layer) {
    build_layer_table(placement.layers[at(layer)], policy_, layout_, staging(layer));
    copied_.push_back(make_event());
  }
  METRO_CUDA_CHECK(cudaMemcpy(tables_.get(), staging_.get(), words * sizeof(std::uint32_t),
                              cudaMemcpyHostToDevice));
  if (needs_active_experts(policy_)) {
    active_[0] = prepared(active_kernel(policy_, layout_, 1));
    active_[1] = prepared(active_kernel(policy_, layout_, 4));
    engine_[0] = prepared(engine_kernel(policy_, layout_, 1));
    engine_[1] = prepared(engine_kernel(policy_, layout_, 4));
    mark_ = prepared(mark_kernel(layout_));
    exchange_ = prepared(exchange_kernel(layout_));
  } else if (policy_ == DevicePolicy::kEven) {
    even_count_ = prepared(even_count_kernel(layout_));
    even_map_ = prepared(even_map_kernel(layout_));
  } else {
    map_ = prepared(map_kernel(policy_, layout_));
  }
  count_ = prepared(count_kernel(layout_));
}

void Router::Impl::route(int layer, Batch batch, int num_tokens, cudaStream_t stream,
                         const RouteExtras& extras) {
  if (layer < 0 || layer >= num_layers_) {
    throw Error(ErrorCode::kUsage, fmt::format("layer {} is not in 0..{}", layer, num_layers_ - 1));
  }
  if (num_tokens < 0 || num_tokens > max_tokens_) {
    throw Error(ErrorCode::kUsage,
                fmt::format("{} tokens are not in 0..{}", num_tokens, max_tokens_));
  }
  batch.num_valid_tokens = extras.num_valid_tokens;
  batch.num_ids = num_tokens * topk_;
  batch.topk = topk_;
  batch.vectorised = is_aligned(batch.ids) && is_aligned(batch.replicas);
  if (extras.engine != nullptr) check_engine(policy_, batch, extras);
  if (extras.tokens_per_replica != nullptr && !extras.accumulate_tokens) {
    METRO_CUDA_CHECK(cudaMemsetAsync(extras.tokens_per_replica, 0,
                                     at(layout_.max_replicas) * sizeof(std::int32_t), stream));
  }
  Counts counts{extras.activated_per_gpu, extras.max_activated, extras.tokens_per_replica,
                extras.num_moves, nullptr};
  const TableView view{table(layer), layout_};
  if (needs_active_experts(policy_)) {
    route_active(view, batch, counts, stream, extras);
    return;
  }
  const bool count = extras.activated_per_gpu != nullptr || extras.max_activated != nullptr;
  if (count) counts.seen = workspace_.get()->seen;
  if (policy_ == DevicePolicy::kEven) {
    route_even(view, batch, counts, stream);
  } else {
    route_tokens(view, batch, counts, stream);
  }
  if (count) launch(count_, {1, kCountThreads, false}, CountParams{view, counts}, stream);
}

void Router::Impl::route_active(const TableView& table, const Batch& batch, Counts counts,
                                cudaStream_t stream, const RouteExtras& extras) {
  ActiveParams params;
  params.table = table;
  params.batch = batch;
  params.counts = counts;
  const int max_threads = active_[0].max_threads;
  const bool few = batch.num_ids <= 4 * max_threads;
  const Kernel& kernel = (extras.engine != nullptr ? engine_ : active_)[few ? 0 : 1];
  if (extras.engine != nullptr) params.engine = *extras.engine;
  const int ids_per_thread = few ? 4 : 16;
  const int wanted = divide_up(divide_up(batch.num_ids, ids_per_thread), 32) * 32;
  const int threads = std::clamp(wanted, kMinActiveThreads, max_threads);
  const int blocks = std::max(1, divide_up(batch.num_ids, ids_per_thread * threads));

  Exchange* exchange = extras.exchange;
  const PeerView* peers = exchange != nullptr ? exchange->peers() : nullptr;
  if (exchange != nullptr) {
    params.exchange = exchange->state_.get();
    params.tokens_per_rank = extras.tokens_per_rank;
  }
  const bool one_kernel = blocks == 1 && (exchange == nullptr || peers != nullptr);
  if (one_kernel) {
    if (peers != nullptr) params.peers = *peers;
    params.early_launch = early_launch_;
  } else {
    Workspace& workspace = *workspace_.get();  // an address on the device, never read here
    const int message_words = layout_.mask_words + kMessageTail;
    const int mark_blocks = std::max(1, divide_up(batch.num_ids, kMarkIds));
    launch(mark_, {mark_blocks, kMarkThreads, false}, MarkParams{table, batch, workspace.marks},
           stream);
    params.marks = workspace.marks;
    params.ticket = &workspace.ticket;
    params.messages = workspace.gathered;
    params.num_messages = exchange != nullptr ? exchange->num_ranks() : 1;
    if (exchange == nullptr) {
      params.messages = workspace.marks;
    } else if (peers != nullptr) {
      const ExchangeParams gather{table, *peers, params.exchange, workspace.marks,
                                  workspace.gathered};
      launch(exchange_, {1, kExchangeThreads, false}, gather, stream);
    } else {
      exchange->all_gather(workspace.marks, workspace.gathered, message_words, stream);
    }
  }
  launch(kernel, {blocks, threads, params.early_launch}, params, stream);
}

void Router::Impl::route_tokens(const TableView& table, const Batch& batch, Counts counts,
                                cudaStream_t stream) {
  const int blocks = std::clamp(divide_up(batch.num_ids, kMapThreads), 1, kMaxMapBlocks);
  launch(map_, {blocks, kMapThreads, early_launch_}, MapParams{table, batch, counts, early_launch_},
         stream);
}

void Router::Impl::route_even(const TableView& table, const Batch& batch, Counts counts,
                              cudaStream_t stream) {
  const int strips = std::max(1, divide_up(batch.num_ids, kEvenStripIds));
  const int strips_per_chunk = strips <= 4 ? strips : divide_up(strips, kEvenMaxChunks);
  const int chunks = divide_up(strips, strips_per_chunk);
  EvenParams params{
      table, batch, counts, workspace_.get()->histograms, strips_per_chunk * kEvenStripIds, false};
  if (chunks > 1) {
    launch(even_count_, {chunks, kEvenThreads, false}, params, stream);
  } else {
    params.early_launch = early_launch_;
  }
  launch(even_map_, {chunks, kEvenThreads, params.early_launch}, params, stream);
}

void Router::Impl::update(int layer, const LayerPlacement& placement, cudaStream_t stream) {
  if (layer < 0 || layer >= num_layers_) {
    throw Error(ErrorCode::kUsage, fmt::format("layer {} is not in 0..{}", layer, num_layers_ - 1));
  }
  METRO_CUDA_CHECK(cudaEventSynchronize(copied_[at(layer)].get()));
  // Built aside, so that a placement that does not fit leaves the layer as it was.
  std::vector<std::uint32_t> words(at(layout_.total_words));
  build_layer_table(placement, policy_, layout_, words);
  std::ranges::copy(words, staging(layer).begin());
  METRO_CUDA_CHECK(cudaMemcpyAsync(table(layer), staging(layer).data(), staging(layer).size_bytes(),
                                   cudaMemcpyHostToDevice, stream));
  METRO_CUDA_CHECK(cudaEventRecord(copied_[at(layer)].get(), stream));
}

Router::Router(const Placement& placement, const RouterOptions& options)
    : impl_(std::make_unique<Impl>(placement, options)) {}
Router::~Router() = default;
Router::Router(Router&&) noexcept = default;
Router& Router::operator=(Router&&) noexcept = default;

void Router::route(int layer, const std::int32_t* topk_ids, int num_tokens,
                   std::int32_t* replica_ids, cudaStream_t stream, const RouteExtras& extras) {
  impl_->route(layer, batch_of(topk_ids, replica_ids, false), num_tokens, stream, extras);
}

void Router::route(int layer, const std::int64_t* topk_ids, int num_tokens,
                   std::int64_t* replica_ids, cudaStream_t stream, const RouteExtras& extras) {
  impl_->route(layer, batch_of(topk_ids, replica_ids, true), num_tokens, stream, extras);
}

void Router::update(int layer, const LayerPlacement& placement, cudaStream_t stream) {
  impl_->update(layer, placement, stream);
}

std::size_t Router::workspace_bytes() const noexcept { return sizeof(Workspace); }

}  // namespace metro::cuda
