// SPDX-License-Identifier: Apache-2.0
#include "ep/cuda/rendezvous.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string_view>
#include <thread>
#include <vector>

#include "io/posix.hpp"
#include "metro/error.hpp"

namespace metro::ep::cuda {
namespace {

using Clock = std::chrono::steady_clock;
using io::FileDescriptor;

/// What a rank says when it connects; a stranger on the port will hardly say the same.
struct Greeting {
  std::uint64_t magic = 0x6d6574726f2d6570;  // "metro-ep"
  std::int32_t rank = 0;
  std::int32_t size = 0;
};

const char* variable(const char* name) {
  return std::getenv(name);  // NOLINT(concurrency-mt-unsafe): nothing here sets variables meanwhile
}

int number(const char* name, int min, int max, int otherwise) {
  const char* text = variable(name);
  if (text == nullptr) return otherwise;
  const std::string_view view = text;
  int value = 0;
  const auto [end, error] = std::from_chars(view.data(), view.data() + view.size(), value);
  if (error != std::errc() || end != view.data() + view.size() || value < min || value > max) {
    throw Error(ErrorCode::kUsage,
                fmt::format("{} is '{}', must be in {}..{}", name, view, min, max));
  }
  return value;
}

int ms_until(Clock::time_point deadline) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
  return static_cast<int>(std::max<std::int64_t>(left.count(), 0));
}

bool is_ready(const FileDescriptor& socket, short events, Clock::time_point deadline) {
  pollfd waiting{socket.get(), events, 0};
  int ready = 0;
  do {
    ready = ::poll(&waiting, 1, ms_until(deadline));
  } while (ready < 0 && errno == EINTR);
  return ready > 0;
}

/// False when the peer is gone or too slow.
bool send_all(const FileDescriptor& socket, std::span<const std::byte> bytes,
              Clock::time_point deadline) {
  while (!bytes.empty()) {
    if (!is_ready(socket, POLLOUT, deadline)) return false;
    const auto sent = ::send(socket.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(sent));
  }
  return true;
}

bool receive_all(const FileDescriptor& socket, std::span<std::byte> bytes,
                 Clock::time_point deadline) {
  while (!bytes.empty()) {
    if (!is_ready(socket, POLLIN, deadline)) return false;
    const auto got = ::recv(socket.get(), bytes.data(), bytes.size(), 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
  return true;
}

struct FreeAddresses {
  void operator()(addrinfo* list) const noexcept { ::freeaddrinfo(list); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Addresses resolve(const char* host, std::uint16_t port, int flags) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_family = AF_UNSPEC;
  hints.ai_flags = flags;
  addrinfo* list = nullptr;
  const int error = ::getaddrinfo(host, std::to_string(port).c_str(), &hints, &list);
  if (error != 0) {
    throw Error(ErrorCode::kDevice,
                fmt::format("cannot resolve '{}', the address of rank 0: {}",
                            host == nullptr ? "" : host, ::gai_strerror(error)));
  }
  return Addresses(list);
}

FileDescriptor listen_on(std::uint16_t port) {
  const Addresses addresses = resolve(nullptr, port, AI_PASSIVE);
  int error = 0;
  for (const addrinfo* at = addresses.get(); at != nullptr; at = at->ai_next) {
    FileDescriptor socket(::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol));
    const int on = 1;
    if (socket.get() >= 0 &&
        ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on) == 0 &&
        ::bind(socket.get(), at->ai_addr, at->ai_addrlen) == 0 &&
        ::listen(socket.get(), SOMAXCONN) == 0) {
      return socket;
    }
    error = errno;
  }
  throw Error(ErrorCode::kDevice, fmt::format("rank 0 cannot listen on port {}: {} (METRO_PORT "
                                              "names another)",
                                              port, io::errno_text(error)));
}

void serve(const World& world, std::span<const std::byte> bytes, Clock::time_point deadline) {
  const FileDescriptor listener = listen_on(world.port);
  std::vector<bool> served(static_cast<std::size_t>(world.size));
  int missing = world.size - 1;
  while (missing > 0 && is_ready(listener, POLLIN, deadline)) {
    const FileDescriptor peer(::accept(listener.get(), nullptr, nullptr));
    Greeting greeting{.magic = 0};
    // A stranger may keep silent, so it is not given all of the time that is left.
    const auto patience = std::min(deadline, Clock::now() + std::chrono::seconds(5));
    if (peer.get() < 0 ||
        !receive_all(peer, std::as_writable_bytes(std::span(&greeting, 1)), patience) ||
        greeting.magic != Greeting{}.magic) {
      continue;
    }
    if (greeting.size != world.size || greeting.rank < 1 || greeting.rank >= world.size ||
        served[static_cast<std::size_t>(greeting.rank)]) {
      throw Error(ErrorCode::kDevice,
                  fmt::format("a process joined as rank {} of {}, but this job has {} ranks and "
                              "each once",
                              greeting.rank, greeting.size, world.size));
    }
    if (!send_all(peer, bytes, deadline)) continue;
    served[static_cast<std::size_t>(greeting.rank)] = true;
    --missing;
  }
  if (missing == 0) return;
  std::vector<int> absent;
  for (int rank = 1; rank < world.size; ++rank) {
    if (!served[static_cast<std::size_t>(rank)]) absent.push_back(rank);
  }
  throw Error(ErrorCode::kDevice, fmt::format("of {} ranks, rank {} did not join in time",
                                              world.size, fmt::join(absent, ", ")));
}

FileDescriptor connect_to(const World& world, Clock::time_point deadline) {
  const Addresses addresses = resolve(world.address.c_str(), world.port, 0);
  for (;;) {  // rank 0 may not listen yet
    for (const addrinfo* at = addresses.get(); at != nullptr; at = at->ai_next) {
      FileDescriptor socket(
          ::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol));
      if (socket.get() >= 0 && ::connect(socket.get(), at->ai_addr, at->ai_addrlen) == 0) {
        return socket;
      }
    }
    if (Clock::now() >= deadline) return FileDescriptor();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
}

}  // namespace

World world_from_environment() {
  constexpr int kMaxRanks = 1 << 16;
  World world;
  const bool mpi = variable("RANK") == nullptr && variable("OMPI_COMM_WORLD_RANK") != nullptr;
  const auto of = [mpi](const char* torch, const char* open_mpi) { return mpi ? open_mpi : torch; };
  world.size = number(of("WORLD_SIZE", "OMPI_COMM_WORLD_SIZE"), 1, kMaxRanks, 1);
  world.rank = number(of("RANK", "OMPI_COMM_WORLD_RANK"), 0, world.size - 1, 0);
  world.local_rank = number(of("LOCAL_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"), 0, kMaxRanks, 0);
  const int master_port = number("MASTER_PORT", 1, 65534, 29500);
  world.port = static_cast<std::uint16_t>(number("METRO_PORT", 1, 65535, master_port + 1));
  if (const char* address = variable("MASTER_ADDR")) {
    world.address = address;
  } else if (mpi && number("OMPI_COMM_WORLD_LOCAL_SIZE", 1, kMaxRanks, 1) != world.size) {
    throw Error(ErrorCode::kUsage,
                "the ranks are on several nodes: MASTER_ADDR must name the node of rank 0");
  }
  return world;
}

void broadcast(const World& world, std::span<std::byte> bytes, std::chrono::milliseconds timeout) {
  const auto deadline = Clock::now() + timeout;
  if (world.size == 1) return;
  if (world.rank == 0) return serve(world, bytes, deadline);
  const FileDescriptor socket = connect_to(world, deadline);
  const Greeting greeting{.rank = world.rank, .size = world.size};
  if (socket.get() < 0 || !send_all(socket, std::as_bytes(std::span(&greeting, 1)), deadline) ||
      !receive_all(socket, bytes, deadline)) {
    throw Error(ErrorCode::kDevice,
                fmt::format("rank {} got no answer from rank 0 at {}:{} in time", world.rank,
                            world.address, world.port));
  }
}

}  // namespace metro::ep::cuda
