// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ep/cuda/device_transport.hpp"
#include "metro/cuda/exchange.hpp"

namespace metro::ep::cuda {

/// The router's exchange of activated experts, over the layer's own transport (which outlives it).
class TransportExchange final : public metro::cuda::Exchange {
 public:
  /// Throws Error{kUsage} for more than 64 ranks, {kDevice}.
  explicit TransportExchange(DeviceTransport& transport)
      : Exchange(transport.rank(), transport.size()), transport_(transport) {}

 private:
  void all_gather(const std::uint32_t* message, std::uint32_t* gathered, int num_words,
                  cudaStream_t stream) override {
    const Transfer transfer{message, gathered,
                            static_cast<std::size_t>(num_words) * sizeof(std::uint32_t)};
    transport_.all_gather({&transfer, 1}, stream);
  }

  DeviceTransport& transport_;
};

}  // namespace metro::ep::cuda
