// SPDX-License-Identifier: Apache-2.0
#include "route_bench/exchange_timing.hpp"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <barrier>
#include <exception>
#include <memory>
#include <span>
#include <thread>

#include "cuda/check.hpp"
#include "cuda/device_memory.hpp"
#include "metro/cuda/router.hpp"
#include "metro/error.hpp"
#include "metro/router.hpp"
#include "route_bench/call_timer.hpp"
#if METRO_HAVE_NCCL
#include "metro/cuda/nccl_exchange.hpp"
#endif

namespace metro::route_bench {
namespace {

std::size_t at(int index) noexcept { return static_cast<std::size_t>(index); }

#if METRO_HAVE_NCCL
void check(ncclResult_t result) {
  if (result != ncclSuccess) {
    throw Error(ErrorCode::kDevice, fmt::format("NCCL: {}", ncclGetErrorString(result)));
  }
}
#endif

/// What the ranks' threads share.
struct Job {
  const Placement& placement;
  const std::vector<TopkBatch>& batches;
  std::vector<std::vector<std::int32_t>> expected;  // [batches] of the CPU, with the whole batch
  int gpus;
  std::barrier<> all;
  std::vector<cuda::PeerHandle> handles;
  std::vector<ExchangeTimes> times;  // [ranks]
#if METRO_HAVE_NCCL
  ncclUniqueId id{};
#endif
};

/// One GPU's part.
class Rank {
 public:
  Rank(Job& job, int rank)
      : job_(job),
        rank_(rank),
        tokens_(job.batches.front().num_tokens / job.gpus),
        num_ids_(at(tokens_) * at(job.batches.front().topk)),
        router_(
            job.placement,
            {.policy = kOptimalPolicy, .max_tokens = tokens_, .topk = job.batches.front().topk}),
        ids_(cuda::make_device_array<std::int32_t>(job.batches.size() * num_ids_)),
        replicas_(cuda::make_device_array<std::int32_t>(job.batches.size() * num_ids_)) {
    for (std::size_t b = 0; b < job.batches.size(); ++b) {
      METRO_CUDA_CHECK(cudaMemcpy(ids_.get() + b * num_ids_, share(job.batches[b].ids).data(),
                                  num_ids_ * sizeof(std::int32_t), cudaMemcpyHostToDevice));
    }
  }

  /// Median of the calls, after all ranks have gone through every batch once and were right.
  double time(cuda::Exchange& exchange) {
    const Call call = [&](int i, cudaStream_t stream) {
      cuda::RouteExtras extras;
      extras.exchange = &exchange;
      router_.route(0, ids_.get() + at(i) * num_ids_, tokens_, replicas_.get() + at(i) * num_ids_,
                    stream, extras);
    };
    for (int round = 0; round < 2; ++round) {  // kernels load in the first
      job_.all.arrive_and_wait();
      for (int i = 0; i < static_cast<int>(job_.batches.size()); ++i) call(i, stream_.get());
      METRO_CUDA_CHECK(cudaStreamSynchronize(stream_.get()));
    }
    verify();
    return time_us(call, static_cast<int>(job_.batches.size()), stream_,
                   [&] { job_.all.arrive_and_wait(); });
  }

 private:
  [[nodiscard]] std::span<const std::int32_t> share(const std::vector<std::int32_t>& whole) const {
    return std::span(whole).subspan(at(rank_) * num_ids_, num_ids_);
  }

  void verify() const {
    std::vector<std::int32_t> own(job_.batches.size() * num_ids_);
    METRO_CUDA_CHECK(cudaMemcpy(own.data(), replicas_.get(), own.size() * sizeof(std::int32_t),
                                cudaMemcpyDeviceToHost));
    for (std::size_t b = 0; b < job_.batches.size(); ++b) {
      if (!std::ranges::equal(std::span(own).subspan(b * num_ids_, num_ids_),
                              share(job_.expected[b]))) {
        throw Error(ErrorCode::kDevice,
                    fmt::format("rank {} routes batch {} otherwise than the CPU", rank_, b));
      }
    }
  }

  Job& job_;
  int rank_;
  int tokens_;
  std::size_t num_ids_;
  cuda::Router router_;
  cuda::DeviceArray<std::int32_t> ids_;
  cuda::DeviceArray<std::int32_t> replicas_;
  BenchStream stream_;
};

void run_rank(Job& job, int rank) {
  METRO_CUDA_CHECK(cudaSetDevice(rank));
  Rank own(job, rank);
  ExchangeTimes& times = job.times[at(rank)];
  cuda::PeerExchange peers(rank, job.gpus);
  job.handles[at(rank)] = peers.handle();
  job.all.arrive_and_wait();
  peers.connect(job.handles);
  job.all.arrive_and_wait();
  times.peer_us = own.time(peers);
  times.timeouts = peers.counters().timeouts;
#if METRO_HAVE_NCCL
  ncclComm_t communicator = nullptr;
  check(ncclCommInitRank(&communicator, job.gpus, job.id, rank));
  const std::unique_ptr<ncclComm, decltype(&ncclCommDestroy)> owner(communicator, ncclCommDestroy);
  cuda::NcclExchange gather(communicator);
  times.nccl_us = own.time(gather);
#endif
  job.all.arrive_and_wait();  // nobody's memory goes while another rank may write to it
}

}  // namespace

ExchangeTimes time_exchanges(const Placement& placement, const std::vector<TopkBatch>& batches,
                             int gpus) {
  Job job{.placement = placement,
          .batches = batches,
          .expected = {},
          .gpus = gpus,
          .all = std::barrier<>(gpus),
          .handles = std::vector<cuda::PeerHandle>(at(gpus)),
          .times = std::vector<ExchangeTimes>(at(gpus))};
  Router router(placement.layers.front(), kOptimalPolicy);
  for (const TopkBatch& batch : batches) {
    router.route(batch.view(), job.expected.emplace_back(batch.ids.size()));
  }
#if METRO_HAVE_NCCL
  check(ncclGetUniqueId(&job.id));
#endif
  std::vector<std::exception_ptr> failures(at(gpus));
  {
    std::vector<std::jthread> threads;
    for (int rank = 0; rank < gpus; ++rank) {
      threads.emplace_back([&job, &failures, rank] {
        try {
          run_rank(job, rank);
        } catch (...) {
          failures[at(rank)] = std::current_exception();
          job.all.arrive_and_drop();
        }
      });
    }
  }
  for (const std::exception_ptr& failure : failures) {
    if (failure) std::rethrow_exception(failure);
  }
  ExchangeTimes slowest;
  for (const ExchangeTimes& times : job.times) {
    slowest.peer_us = std::max(slowest.peer_us, times.peer_us);
    slowest.nccl_us = std::max(slowest.nccl_us, times.nccl_us);
    slowest.timeouts = std::max(slowest.timeouts, times.timeouts);
  }
  return slowest;
}

}  // namespace metro::route_bench
