// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <barrier>
#include <cstdint>
#include <exception>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "cuda/check.hpp"
#include "ep/cuda/device_transport.hpp"
#include "ep/low_precision.hpp"

namespace metro::test {

/// Ranks as threads that share one GPU: the collectives of a layer without NCCL, which wants a GPU
/// for each rank. Stops the stream in every call, so nothing of it can be captured.
class Loopback {
 public:
  explicit Loopback(int num_ranks)
      : posted_(static_cast<std::size_t>(num_ranks)), barrier_(num_ranks) {}

  class Rank final : public ep::cuda::DeviceTransport {
   public:
    Rank(Loopback& hub, int rank) : hub_(hub), rank_(rank) {}
    [[nodiscard]] int rank() const noexcept override { return rank_; }
    [[nodiscard]] int size() const noexcept override {
      return static_cast<int>(hub_.posted_.size());
    }
    [[nodiscard]] std::string_view name() const noexcept override { return "loopback"; }

    void all_gather(std::span<const ep::cuda::Transfer> transfers, cudaStream_t stream) override {
      move(transfers, stream, 0);
    }
    void all_to_all(std::span<const ep::cuda::Transfer> transfers, cudaStream_t stream) override {
      move(transfers, stream, static_cast<std::size_t>(rank_));
    }
    void reduce_scatter(const __nv_bfloat16* send, __nv_bfloat16* receive, std::size_t count,
                        cudaStream_t stream) override {
      const ep::cuda::Transfer own{send, nullptr, count};
      post({&own, 1}, stream);
      std::vector<float> sums(count);
      std::vector<std::uint16_t> block(count);
      for (const auto& peer : hub_.posted_) {
        const auto* from = static_cast<const __nv_bfloat16*>(peer[0].send);
        METRO_CUDA_CHECK(cudaMemcpy(block.data(), from + static_cast<std::size_t>(rank_) * count,
                                    count * 2, cudaMemcpyDeviceToHost));
        for (std::size_t i = 0; i < count; ++i) sums[i] += ep::from_bf16(block[i]);
      }
      for (std::size_t i = 0; i < count; ++i) block[i] = ep::to_bf16(sums[i]);
      METRO_CUDA_CHECK(cudaMemcpy(receive, block.data(), count * 2, cudaMemcpyHostToDevice));
      hub_.barrier_.arrive_and_wait();
    }
    void wait(cudaStream_t stream) override { METRO_CUDA_CHECK(cudaStreamSynchronize(stream)); }

   private:
    void post(std::span<const ep::cuda::Transfer> transfers, cudaStream_t stream) {
      wait(stream);
      hub_.posted_[static_cast<std::size_t>(rank_)] = {transfers.begin(), transfers.end()};
      hub_.barrier_.arrive_and_wait();
    }
    /// From each peer its block number `block`.
    void move(std::span<const ep::cuda::Transfer> transfers, cudaStream_t stream,
              std::size_t block) {
      post(transfers, stream);
      for (std::size_t peer = 0; peer < hub_.posted_.size(); ++peer) {
        for (std::size_t i = 0; i < transfers.size(); ++i) {
          const std::size_t bytes = transfers[i].bytes;
          METRO_CUDA_CHECK(cudaMemcpyAsync(
              static_cast<std::byte*>(transfers[i].receive) + peer * bytes,
              static_cast<const std::byte*>(hub_.posted_[peer][i].send) + block * bytes, bytes,
              cudaMemcpyDeviceToDevice, stream));
        }
      }
      wait(stream);
      hub_.barrier_.arrive_and_wait();
    }

    Loopback& hub_;
    int rank_;
  };

  /// Runs `work(transport)` on a thread for each rank; throws what the first to fail has thrown.
  template <typename Work>
  void run(Work work) {
    std::exception_ptr failure;
    std::mutex mutex;
    {
      std::vector<std::jthread> threads;
      for (int rank = 0; rank < static_cast<int>(posted_.size()); ++rank) {
        threads.emplace_back([&, rank] {
          Rank transport(*this, rank);
          try {
            work(transport);
          } catch (...) {
            const std::scoped_lock lock(mutex);
            if (!failure) failure = std::current_exception();
            barrier_.arrive_and_drop();  // the others go on, with rubbish
          }
        });
      }
    }
    if (failure) std::rethrow_exception(failure);
  }

 private:
  std::vector<std::vector<ep::cuda::Transfer>> posted_;  // [ranks]
  std::barrier<> barrier_;
};

}  // namespace metro::test
