// SPDX-License-Identifier: Apache-2.0
// Ranks in two processes on one GPU, over CUDA IPC; the second one is started again.
#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "gpu/device_test.hpp"
#include "metro/cuda/router.hpp"
#include "metro/router.hpp"
#include "support/random_instance.hpp"

extern char** environ;  // NOLINT: POSIX's name

namespace metro {
namespace {

constexpr int kExperts = 64;
constexpr int kGpus = 8;
constexpr int kTopk = 4;
constexpr int kTokens = 12;
constexpr int kCalls = 10;
constexpr const char* kSocketName = "METRO_TEST_SOCKET";

/// To the other process; an end of file throws, so that none waits for one that has died.
class Socket {
 public:
  explicit Socket(int file) : file_(file) {}
  ~Socket() { close(file_); }
  Socket(const Socket&) = delete;
  Socket& operator=(const Socket&) = delete;

  template <typename T>
  T swap(const T& own) const {
    T other;
    if (write(file_, &own, sizeof own) != static_cast<ssize_t>(sizeof own) ||
        recv(file_, &other, sizeof other, MSG_WAITALL) != static_cast<ssize_t>(sizeof other)) {
      throw std::runtime_error("the other process has gone");
    }
    return other;
  }
  void barrier() const { static_cast<void>(swap('b')); }

 private:
  int file_;
};

/// One of two ranks.
class Rank {
 public:
  explicit Rank(int rank) : rank_(rank), exchange_(rank, 2, std::chrono::seconds(20)) {}

  void connect(const Socket& socket) {
    std::vector<cuda::PeerHandle> handles(2);
    handles[static_cast<std::size_t>(rank_)] = exchange_.handle();
    handles[static_cast<std::size_t>(1 - rank_)] = socket.swap(exchange_.handle());
    exchange_.connect(handles);
    socket.barrier();
  }

  void expect_global_answers(std::uint64_t seed) {
    Rng rng(seed);
    for (int call = 0; call < kCalls; ++call) {
      const TopkBatch whole = test::random_topk(rng, kExperts, 2 * kTokens, kTopk);
      std::vector<std::int32_t> all(whole.ids.size());
      Router(placement_.layers[0], "optimal").route(whole.view(), all);
      const auto half = static_cast<std::ptrdiff_t>(all.size() / 2);
      const auto part = [&](const std::vector<std::int32_t>& ids) {
        return std::vector<std::int32_t>(ids.begin() + rank_ * half,
                                         ids.begin() + (rank_ + 1) * half);
      };
      ids_.fill(part(whole.ids));
      cuda::RouteExtras extras;
      extras.exchange = &exchange_;
      router_.route(0, ids_.data(), kTokens, ids_.data(), stream_, extras);
      stream_.wait();
      ASSERT_EQ(ids_.read(), part(all)) << "rank " << rank_ << ", call " << call;
    }
    EXPECT_EQ(exchange_.fault(), cuda::ExchangeFault::kNone);
  }

  cuda::PeerExchange& exchange() { return exchange_; }

 private:
  int rank_;
  Rng rng_{5};
  Placement placement_{kExperts, kGpus, {test::random_placement(rng_, kExperts, kGpus)}};
  cuda::Router router_{placement_, {.max_tokens = kTokens, .topk = kTopk}};
  cuda::PeerExchange exchange_;
  test::Stream stream_;
  test::DeviceVector<std::int32_t> ids_{std::size_t{kTokens} * kTopk};
};

class ExchangeProcesses : public test::DeviceTest {};

/// The second process: this binary again, with a socket in its environment.
TEST_F(ExchangeProcesses, TheOtherRank) {
  const char* file = std::getenv(kSocketName);
  if (file == nullptr) GTEST_SKIP() << "started by the other test";
  const Socket socket(std::stoi(file));
  Rank rank(1);
  rank.connect(socket);
  rank.expect_global_answers(1);
  socket.barrier();
  std::_Exit(HasFailure() ? 1 : 0);  // as one that is killed: nothing is closed
}

class OtherProcess {
 public:
  OtherProcess() {
    int files[2];
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, files) != 0) throw std::runtime_error("socketpair");
    fcntl(files[0], F_SETFD, FD_CLOEXEC);
    socket_ = std::make_unique<Socket>(files[0]);
    setenv(kSocketName, std::to_string(files[1]).c_str(), 1);
    std::string program = "/proc/self/exe";
    std::string filter = "--gtest_filter=ExchangeProcesses.TheOtherRank";
    char* arguments[] = {program.data(), filter.data(), nullptr};
    const int failed =
        posix_spawn(&process_, program.c_str(), nullptr, nullptr, arguments, environ);
    unsetenv(kSocketName);
    close(files[1]);
    if (failed != 0) throw std::runtime_error("posix_spawn");
  }
  ~OtherProcess() { static_cast<void>(status()); }
  OtherProcess(const OtherProcess&) = delete;
  OtherProcess& operator=(const OtherProcess&) = delete;

  [[nodiscard]] const Socket& socket() const { return *socket_; }
  int status() {
    if (process_ > 0) waitpid(process_, &status_, 0);
    process_ = 0;
    return status_;
  }

 private:
  std::unique_ptr<Socket> socket_;
  pid_t process_ = 0;
  int status_ = 0;
};

TEST_F(ExchangeProcesses, ExchangeOverIpcAlsoAfterARestart) {
  Rank rank(0);
  for (int start = 0; start < 3; ++start) {
    OtherProcess other;
    rank.connect(other.socket());
    rank.expect_global_answers(1);
    other.socket().barrier();
    EXPECT_EQ(other.status(), 0) << "start " << start;
  }
  EXPECT_EQ(rank.exchange().counters().fallbacks, 0U);
}

}  // namespace
}  // namespace metro
