// SPDX-License-Identifier: Apache-2.0
// The layer on MPI ranks against the plain one-place reference, for every policy and dispatch.
// Every rank checks its own tokens, so that a fault on any of them fails the job:
//
//     mpirun -np 4 ep_mpi_test
#include <gtest/gtest.h>

#include <memory>
#include <numeric>
#include <string>
#include <vector>

#include "metro/ep/mpi_transport.hpp"
#include "metro/router.hpp"
#include "support/moe_cases.hpp"

namespace metro::test {
namespace {

std::unique_ptr<ep::Transport> ranks;  // MPI can be started only once in a process

/// Each rank's value, [ranks]; collective.
std::vector<std::size_t> gather(std::size_t own) {
  std::vector<std::size_t> all(static_cast<std::size_t>(ranks->size()));
  ranks->all_gather(std::as_bytes(std::span(&own, 1)), std::as_writable_bytes(std::span(all)),
                    std::vector<std::size_t>(all.size(), sizeof own));
  return all;
}

class EpMpi : public testing::Test {
 protected:
  /// Runs the case, and checks this rank's rows and the conservation of all.
  static MoeOutcome check(const MoeCase& test, const std::vector<float>& x,
                          std::size_t expected_assignments) {
    MoeOutcome outcome;
    outcome.out.resize(x.size());
    outcome.replica_ids.resize(static_cast<std::size_t>(test.num_tokens()) *
                               static_cast<std::size_t>(test.shape.topk));
    outcome.runs.resize(test.tokens.size());
    run_rank(test, x, {}, *ranks, outcome);

    const auto rank = static_cast<std::size_t>(ranks->rank());
    const auto hidden = static_cast<std::size_t>(test.shape.hidden);
    const MoeReference reference(test.shape, test.weight_seed);
    for (int token = 0; token < test.tokens[rank]; ++token) {
      const std::size_t row =
          static_cast<std::size_t>(test.first_row(ranks->rank()) + token) * hidden;
      const std::vector<double> expected = reference.output(x.data() + row, nullptr);
      for (std::size_t h = 0; h < hidden; ++h) {
        EXPECT_NEAR(outcome.out[row + h], expected[h], 1e-4) << "rank " << rank;
      }
    }
    // Invariant 1: every (token, k) is served once.
    const auto served = gather(outcome.runs[rank].assignments);
    EXPECT_EQ(std::accumulate(served.begin(), served.end(), std::size_t{0}), expected_assignments);
    return outcome;
  }
};

TEST_F(EpMpi, EveryPolicyAndDispatchComputesWhatOnePlaceComputes) {
  MoeCase test = small_case(ranks->size(), 7);
  const auto x = random_tokens(test.num_tokens(), test.shape.hidden, 3);
  const auto pairs = static_cast<std::size_t>(test.num_tokens() * test.shape.topk);
  for (const PolicyInfo& policy : policies()) {
    test.options.policy = policy.name;
    for (const Way& way : kWays) {
      SCOPED_TRACE(std::string(policy.name) + " " + std::string(to_string(way.dispatch)) + " " +
                   std::string(to_string(way.combine)));
      test.options.dispatch = way.dispatch;
      test.options.combine = way.combine;
      check(test, x, pairs);
    }
  }
}

TEST_F(EpMpi, TensorShardedComputesTheSame) {
  MoeCase test = small_case(ranks->size(), 8);
  test.shape.intermediate = 13;  // no multiple of the ranks
  test.options.sharding = ep::ExpertSharding::kTensorSharded;
  const auto x = random_tokens(test.num_tokens(), test.shape.hidden, 4);
  const auto pairs = static_cast<std::size_t>(test.num_tokens() * test.shape.topk);
  for (const Way& way : kWays) {
    test.options.dispatch = way.dispatch;
    test.options.combine = way.combine;
    check(test, x, pairs * test.tokens.size());
  }
}

TEST_F(EpMpi, APlacementMayChangeBetweenSteps) {
  MoeCase test = small_case(ranks->size(), 12);
  Rng rng(5);
  for (int step = 0; step < 3; ++step) {
    test.steps.push_back(random_placement(rng, test.shape.num_experts, ranks->size()));
  }
  const auto x = random_tokens(test.num_tokens(), test.shape.hidden, 6);
  for (const Way& way : kWays) {
    test.options.dispatch = way.dispatch;
    test.options.combine = way.combine;
    check(test, x, static_cast<std::size_t>(test.num_tokens() * test.shape.topk));
  }
}

TEST_F(EpMpi, ThreadsAndProcessesChooseTheSameReplicas) {
  MoeCase test = small_case(ranks->size(), 13);
  const auto x = random_tokens(test.num_tokens(), test.shape.hidden, 7);
  const auto pairs = static_cast<std::size_t>(test.num_tokens() * test.shape.topk);
  const MoeOutcome threads = run_ranks(test, x);
  const MoeOutcome processes = check(test, x, pairs);  // all-gather: rank 0 has every id
  if (ranks->rank() == 0) {
    EXPECT_EQ(processes.replica_ids, threads.replica_ids);
  }
}

}  // namespace
}  // namespace metro::test

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  metro::test::ranks = metro::ep::make_mpi_transport(60);
  const int rank = metro::test::ranks->rank();
  if (rank != 0) {  // one rank tells of success, each of its own faults
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    struct Faults : testing::EmptyTestEventListener {
      void OnTestPartResult(const testing::TestPartResult& result) override {
        if (result.failed()) std::fprintf(stderr, "%s\n", result.message());
      }
    };
    listeners.Append(new Faults);
  }
  const int failed = RUN_ALL_TESTS();
  metro::test::ranks.reset();  // MPI_Finalize
  return failed;
}
