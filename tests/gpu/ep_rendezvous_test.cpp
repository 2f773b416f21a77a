// SPDX-License-Identifier: Apache-2.0
// How processes find each other; threads stand in for them here, and no GPU is needed.
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <array>
#include <cstdlib>
#include <map>
#include <string>
#include <thread>
#include <vector>

#include "ep/cuda/rendezvous.hpp"
#include "io/posix.hpp"
#include "metro/error.hpp"

namespace metro::ep::cuda {
namespace {

using namespace std::chrono_literals;

using Payload = std::array<std::byte, 128>;

/// A port that was free a moment ago.
std::uint16_t free_port() {
  const io::FileDescriptor socket(::socket(AF_INET, SOCK_STREAM, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  if (::bind(socket.get(), generic, size) != 0) return 0;
  ::getsockname(socket.get(), generic, &size);
  return ntohs(address.sin_port);
}

World world_of(int rank, int size, std::uint16_t port) {
  return {.rank = rank, .size = size, .local_rank = rank, .address = "127.0.0.1", .port = port};
}

/// What the broadcast throws on each of the given ranks of a world of `size`.
std::map<int, std::string> failures_of(const std::vector<int>& ranks, int size,
                                       std::chrono::milliseconds timeout) {
  const std::uint16_t port = free_port();
  std::vector<std::string> errors(ranks.size());
  std::vector<Payload> payloads(ranks.size());
  {
    std::vector<std::jthread> threads;
    for (std::size_t i = 0; i < ranks.size(); ++i) {
      threads.emplace_back([&, i] {
        payloads[i].fill(static_cast<std::byte>(ranks[i] == 0 ? 0x42 : 0));
        try {
          broadcast(world_of(ranks[i], size, port), payloads[i], timeout);
          if (payloads[i].back() != std::byte{0x42}) errors[i] = "wrong bytes";
        } catch (const Error& error) {
          errors[i] = error.what();
        }
      });
    }
  }
  std::map<int, std::string> failures;
  for (std::size_t i = 0; i < ranks.size(); ++i) {
    if (!errors[i].empty()) failures[ranks[i]] = errors[i];
  }
  return failures;
}

TEST(EpRendezvous, BringsTheBytesToEveryRank) {
  EXPECT_TRUE(failures_of({0}, 1, 1s).empty());
  EXPECT_TRUE(failures_of({0, 1}, 2, 10s).empty());
  EXPECT_TRUE(failures_of({5, 3, 0, 4, 2, 1}, 6, 10s).empty());
}

TEST(EpRendezvous, NamesTheRanksThatDidNotCome) {
  const auto failures = failures_of({0, 2}, 4, 500ms);
  ASSERT_TRUE(failures.contains(0));
  EXPECT_NE(failures.at(0).find("rank 1, 3 did not join"), std::string::npos) << failures.at(0);
  EXPECT_FALSE(failures.contains(2));
}

TEST(EpRendezvous, EndsInTimeWithoutRankZero) {
  const auto failures = failures_of({1}, 2, 300ms);
  ASSERT_TRUE(failures.contains(1));
  EXPECT_NE(failures.at(1).find("rank 1 got no answer from rank 0"), std::string::npos);
}

TEST(EpRendezvous, RefusesARankThatComesTwice) {
  const auto failures = failures_of({0, 1, 1}, 3, 5s);
  ASSERT_TRUE(failures.contains(0));
  EXPECT_NE(failures.at(0).find("joined as rank 1 of 3"), std::string::npos) << failures.at(0);
}

/// Sets variables for one case and puts them away after it.
class Variables {
 public:
  explicit Variables(const std::map<std::string, std::string>& values) : values_(values) {
    for (const auto& [name, value] : values_) ::setenv(name.c_str(), value.c_str(), 1);
  }
  ~Variables() {
    for (const auto& [name, value] : values_) ::unsetenv(name.c_str());
  }
  Variables(const Variables&) = delete;
  Variables& operator=(const Variables&) = delete;

 private:
  std::map<std::string, std::string> values_;
};

TEST(EpRendezvous, ReadsWhatStartedTheJob) {
  {
    const World alone = world_from_environment();
    EXPECT_EQ(alone.size, 1);
    EXPECT_EQ(alone.rank, 0);
  }
  {
    const Variables torchrun({{"RANK", "5"},
                              {"WORLD_SIZE", "8"},
                              {"LOCAL_RANK", "1"},
                              {"MASTER_ADDR", "node0"},
                              {"MASTER_PORT", "1234"}});
    const World world = world_from_environment();
    EXPECT_EQ(world.rank, 5);
    EXPECT_EQ(world.size, 8);
    EXPECT_EQ(world.local_rank, 1);
    EXPECT_EQ(world.address, "node0");
    EXPECT_EQ(world.port, 1235);
  }
  {
    const Variables mpirun({{"OMPI_COMM_WORLD_RANK", "3"},
                            {"OMPI_COMM_WORLD_SIZE", "4"},
                            {"OMPI_COMM_WORLD_LOCAL_RANK", "3"},
                            {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
                            {"METRO_PORT", "99"}});
    const World world = world_from_environment();
    EXPECT_EQ(world.rank, 3);
    EXPECT_EQ(world.size, 4);
    EXPECT_EQ(world.port, 99);
  }
  for (const auto& wrong : {std::map<std::string, std::string>{{"RANK", "4"}, {"WORLD_SIZE", "4"}},
                            {{"RANK", "x"}, {"WORLD_SIZE", "4"}},
                            {{"RANK", "0"}, {"WORLD_SIZE", "0"}},
                            {{"RANK", "0"}, {"MASTER_PORT", "70000"}},
                            {{"OMPI_COMM_WORLD_RANK", "0"},
                             {"OMPI_COMM_WORLD_SIZE", "4"},
                             {"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}}) {
    const Variables variables(wrong);
    EXPECT_THROW(world_from_environment(), Error) << wrong.begin()->second;
  }
}

}  // namespace
}  // namespace metro::ep::cuda
