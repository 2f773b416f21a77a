// SPDX-License-Identifier: Apache-2.0
// Runs the installed expert-parallel layer on two local ranks; exits 1 when an answer is wrong.
#include <cmath>
#include <iostream>
#include <metro/ep/local_transport.hpp>
#include <metro/ep/moe_layer.hpp>
#include <metro/ep/mpi_transport.hpp>
#include <metro/error.hpp>
#include <span>
#include <vector>

namespace {

/// Experts of hidden size and width 1: expert e gives (e + 1) * silu(x) * x.
class Experts final : public metro::ep::WeightSource {
 public:
  Experts() {
    for (int e = 0; e < 2; ++e) {
      views_[e] = {.gate_up = {.rows = 2, .cols = 1, .values = ones_},
                   .down = {.rows = 1, .cols = 1, .values = &down_[e]}};
    }
  }
  const metro::ep::ExpertWeights& weights(int /*slot*/, int expert) override {
    return views_[expert];
  }

 private:
  float ones_[2] = {1, 1};
  float down_[2] = {1, 2};
  metro::ep::ExpertWeights views_[2];
};

}  // namespace

int main() {
  using namespace metro::ep;
  const metro::LayerPlacement placement{.num_experts = 2,
                                        .num_gpus = 2,
                                        .replica_to_expert = {0, 1},
                                        .replica_to_gpu = {0, 1},
                                        .home = {},
                                        .shares = {}};
  const LayerShape shape{.hidden = 1, .intermediate = 1, .num_experts = 2, .topk = 1};
  const std::vector<float> gate = {1, -1};     // expert 0 for what is above 0, else expert 1
  const std::vector<float> x = {0.5F, -0.5F};  // a token on each rank
  std::vector<float> out(2);
  Experts experts;
  run_local_ranks(2, 30, [&](Transport& transport) {
    MoeLayer layer(shape, placement, {.policy = "optimal"}, {}, {.gate = gate}, experts, transport);
    const auto rank = static_cast<std::size_t>(transport.rank());
    layer.forward({.x = std::span(x).subspan(rank, 1), .num_tokens = 1},
                  std::span(out).subspan(rank, 1));
  });
  for (std::size_t i = 0; i < 2; ++i) {
    const float expected = (i == 0 ? 1.0F : 2.0F) * x[i] * x[i] / (1 + std::exp(-x[i]));
    if (std::abs(out[i] - expected) > 1e-6F) {
      std::cerr << "token " << i << " is " << out[i] << ", not " << expected << '\n';
      return 1;
    }
  }
  if (has_mpi()) return 0;  // one rank would start MPI, which is not this test's matter
  try {
    (void)make_mpi_transport(1);
  } catch (const metro::Error& error) {
    return error.code() == metro::ErrorCode::kDevice ? 0 : 1;
  }
  return 1;
}
