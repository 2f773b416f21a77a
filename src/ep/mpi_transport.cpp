// SPDX-License-Identifier: Apache-2.0
#include "metro/ep/mpi_transport.hpp"

#include <fmt/format.h>
#include <mpi.h>

#include <chrono>
#include <climits>
#include <cstring>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "ep/rank_names.hpp"
#include "metro/error.hpp"

// NOLINTBEGIN(bugprone-casting-through-void): Open MPI's handles are macros that do so.

namespace metro::ep {
namespace {

void check(int status, const char* call) {
  if (status == MPI_SUCCESS) return;
  std::string text(MPI_MAX_ERROR_STRING, '\0');
  int length = 0;
  MPI_Error_string(status, text.data(), &length);
  text.resize(static_cast<std::size_t>(length));
  throw Error(ErrorCode::kDevice, fmt::format("{}: {}", call, text));
}

int block_size(std::size_t bytes) {
  if (bytes > INT_MAX) {
    throw Error(ErrorCode::kInfeasible,
                fmt::format("a block of {} bytes is above MPI's limit of {}, use fewer tokens",
                            bytes, INT_MAX));
  }
  return static_cast<int>(bytes);
}

class MpiTransport final : public Transport {
 public:
  explicit MpiTransport(double timeout_s) : timeout_(timeout_s) {
    int is_started = 0;
    check(MPI_Initialized(&is_started), "MPI_Initialized");
    if (is_started == 0) check(MPI_Init(nullptr, nullptr), "MPI_Init");
    check(MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_), "MPI_Comm_rank");
    check(MPI_Comm_size(MPI_COMM_WORLD, &size_), "MPI_Comm_size");
  }

  ~MpiTransport() override {
    // After a fault MPI_Finalize would wait for those that do not answer.
    if (is_broken_ || std::uncaught_exceptions() > 0) return;
    try {
      barrier();
      MPI_Finalize();
    } catch (const Error&) {
      is_broken_ = true;  // the process ends without it
    }
  }

  [[nodiscard]] int rank() const noexcept override { return rank_; }
  [[nodiscard]] int size() const noexcept override { return size_; }
  [[nodiscard]] std::string_view name() const noexcept override { return "mpi"; }

  void all_to_all(std::span<const std::byte> send, std::span<const std::size_t> send_bytes,
                  std::span<std::byte> receive,
                  std::span<const std::size_t> receive_bytes) override {
    begin();
    std::size_t from = 0;
    std::size_t own = 0;
    for (int r = 0; r < size_; ++r) {
      const std::size_t bytes = send_bytes[static_cast<std::size_t>(r)];
      if (r == rank_) own = from;
      send_block(r, send.subspan(from, bytes));
      from += bytes;
    }
    receive_blocks(receive, receive_bytes, send.subspan(own));
    wait();
  }

  void all_gather(std::span<const std::byte> send, std::span<std::byte> receive,
                  std::span<const std::size_t> bytes) override {
    begin();
    for (int r = 0; r < size_; ++r) send_block(r, send);
    receive_blocks(receive, bytes, send);
    wait();
  }

  void barrier() override {
    const std::byte mine{1};
    std::vector<std::byte> all(static_cast<std::size_t>(size_));
    all_gather(std::span(&mine, 1), all, std::vector<std::size_t>(all.size(), 1));
  }

 private:
  using Clock = std::chrono::steady_clock;
  static constexpr std::chrono::microseconds kSpin{200};
  static constexpr std::chrono::microseconds kNap{50};
  static constexpr int kTag = 1;  // messages between two ranks keep their order

  void begin() {
    requests_.clear();
    peers_.clear();
    is_broken_ = true;  // until wait() is through
  }

  void send_block(int to, std::span<const std::byte> block) {
    if (to == rank_ || block.empty()) return;
    MPI_Request& request = add_request(to);
    check(MPI_Isend(block.data(), block_size(block.size()), MPI_BYTE, to, kTag, MPI_COMM_WORLD,
                    &request),
          "MPI_Isend");
  }

  void receive_blocks(std::span<std::byte> receive, std::span<const std::size_t> bytes,
                      std::span<const std::byte> own) {
    std::byte* out = receive.data();
    for (int r = 0; r < size_; ++r) {
      const std::size_t count = bytes[static_cast<std::size_t>(r)];
      if (count == 0) continue;
      if (r == rank_) {
        std::memcpy(out, own.data(), count);
      } else {
        MPI_Request& request = add_request(r);
        check(MPI_Irecv(out, block_size(count), MPI_BYTE, r, kTag, MPI_COMM_WORLD, &request),
              "MPI_Irecv");
      }
      out += count;
    }
  }

  MPI_Request& add_request(int peer) {
    peers_.push_back(peer);
    return requests_.emplace_back(MPI_REQUEST_NULL);
  }

  void wait() {
    const auto start = Clock::now();
    const auto deadline = start + timeout_;
    int is_done = 0;
    while (true) {
      check(MPI_Testall(static_cast<int>(requests_.size()), requests_.data(), &is_done,
                        MPI_STATUSES_IGNORE),
            "MPI_Testall");
      if (is_done != 0) break;
      const auto now = Clock::now();
      if (now > deadline) throw_silent();
      if (now < start + kSpin) {
        std::this_thread::yield();
      } else {  // there may be more ranks than cores: leave them to those that compute
        std::this_thread::sleep_for(kNap);
      }
    }
    is_broken_ = false;
  }

  [[noreturn]] void throw_silent() {
    std::vector<int> ranks;
    for (int r = 0; r < size_; ++r) {
      for (std::size_t i = 0; i < requests_.size(); ++i) {
        int is_done = 0;
        if (peers_[i] != r) continue;
        check(MPI_Request_get_status(requests_[i], &is_done, MPI_STATUS_IGNORE),
              "MPI_Request_get_status");
        if (is_done == 0 && (ranks.empty() || ranks.back() != r)) ranks.push_back(r);
      }
    }
    throw Error(ErrorCode::kDevice, fmt::format("{} of {} did not answer rank {} within {:g} s",
                                                rank_names(ranks), size_, rank_, timeout_.count()));
  }

  std::chrono::duration<double> timeout_;
  int rank_ = 0;
  int size_ = 1;
  bool is_broken_ = false;
  std::vector<MPI_Request> requests_;
  std::vector<int> peers_;  // of each request
};

}  // namespace

bool has_mpi() noexcept { return true; }

std::unique_ptr<Transport> make_mpi_transport(double timeout_s) {
  return std::make_unique<MpiTransport>(timeout_s);
}

}  // namespace metro::ep

// NOLINTEND(bugprone-casting-through-void)
