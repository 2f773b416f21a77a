// SPDX-License-Identifier: Apache-2.0
#include "sweep/mpi_workers.hpp"

#include <mpi.h>

#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

namespace metro::sweeping {
namespace {

using Work = std::function<std::string(std::size_t)>;
using Done = std::function<void(std::size_t, const std::string&)>;

constexpr std::int64_t kNone = -1;
constexpr int kTag = 0;

/// A worker's message: the point it worked out (kNone at first), and the text behind it.
std::string pack(std::int64_t point, const std::string& text) {
  std::string message(sizeof point, '\0');
  std::memcpy(message.data(), &point, sizeof point);
  return message + text;
}

/// The next message of any worker. Sleeps between looks: MPI's own wait would keep a core busy.
std::string receive(int& source) {
  MPI_Status status;
  for (int there = 0;;) {
    MPI_Iprobe(MPI_ANY_SOURCE, kTag, MPI_COMM_WORLD, &there, &status);
    if (there != 0) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  int size = 0;
  MPI_Get_count(&status, MPI_CHAR, &size);
  std::string message(static_cast<std::size_t>(size), '\0');
  source = status.MPI_SOURCE;
  MPI_Recv(message.data(), size, MPI_CHAR, source, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  return message;
}

void run_writer(const std::vector<std::size_t>& todo, int num_workers, const Done& done) {
  std::size_t next = 0;
  for (int working = num_workers; working > 0;) {
    int source = 0;
    const std::string message = receive(source);
    std::int64_t point = kNone;
    std::memcpy(&point, message.data(), sizeof point);
    const std::int64_t reply = next < todo.size() ? static_cast<std::int64_t>(todo[next++]) : kNone;
    MPI_Send(&reply, 1, MPI_INT64_T, source, kTag, MPI_COMM_WORLD);
    if (reply == kNone) --working;
    if (point != kNone) done(static_cast<std::size_t>(point), message.substr(sizeof point));
  }
}

void run_worker(const Work& work) {
  std::string message = pack(kNone, "");
  for (;;) {
    MPI_Send(message.data(), static_cast<int>(message.size()), MPI_CHAR, 0, kTag, MPI_COMM_WORLD);
    std::int64_t point = kNone;
    MPI_Recv(&point, 1, MPI_INT64_T, 0, kTag, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
    if (point == kNone) return;
    message = pack(point, work(static_cast<std::size_t>(point)));
  }
}

class MpiWorkers final : public SweepWorkers {
 public:
  MpiWorkers() {
    MPI_Init(nullptr, nullptr);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
  }
  MpiWorkers(const MpiWorkers&) = delete;
  MpiWorkers& operator=(const MpiWorkers&) = delete;
  ~MpiWorkers() override { MPI_Finalize(); }

  [[nodiscard]] int size() const noexcept { return size_; }
  [[nodiscard]] bool is_writer() const noexcept override { return rank_ == 0; }

  void run(const std::vector<std::size_t>& todo, const Work& work, const Done& done) override {
    if (is_writer()) {
      run_writer(todo, size_ - 1, done);
    } else {
      run_worker(work);
    }
  }

 private:
  int rank_ = 0;
  int size_ = 1;
};

}  // namespace

std::unique_ptr<SweepWorkers> join_mpi_workers() {
  // Alone, without mpirun's variables, MPI would only cost its start.
  // NOLINTNEXTLINE(concurrency-mt-unsafe): no other thread runs yet.
  if (std::getenv("OMPI_COMM_WORLD_SIZE") == nullptr && std::getenv("PMI_SIZE") == nullptr) {
    return nullptr;
  }
  auto workers = std::make_unique<MpiWorkers>();
  if (workers->size() == 1) return nullptr;
  return workers;
}

}  // namespace metro::sweeping
