// SPDX-License-Identifier: Apache-2.0
#include "route_bench/call_timer.hpp"

#include <algorithm>
#include <memory>
#include <type_traits>

#include "cuda/check.hpp"

namespace metro::route_bench {
namespace {

constexpr int kCalls = 64;
constexpr int kReplays = 101;

class Event {
 public:
  Event() { METRO_CUDA_CHECK(cudaEventCreate(&event_)); }
  ~Event() { cudaEventDestroy(event_); }
  Event(const Event&) = delete;
  Event& operator=(const Event&) = delete;
  void record(const BenchStream& stream) const {
    METRO_CUDA_CHECK(cudaEventRecord(event_, stream.get()));
  }
  [[nodiscard]] double us_since(const Event& begin) const {
    float ms = 0;
    METRO_CUDA_CHECK(cudaEventSynchronize(event_));
    METRO_CUDA_CHECK(cudaEventElapsedTime(&ms, begin.event_, event_));
    return 1000.0 * static_cast<double>(ms);
  }

 private:
  cudaEvent_t event_ = nullptr;
};

struct DestroyGraph {
  void operator()(cudaGraphExec_t graph) const noexcept { cudaGraphExecDestroy(graph); }
};
using Graph = std::unique_ptr<std::remove_pointer_t<cudaGraphExec_t>, DestroyGraph>;

Graph capture(const Call& call, int num_inputs, const BenchStream& stream) {
  METRO_CUDA_CHECK(cudaStreamBeginCapture(stream.get(), cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < kCalls; ++i) call(i % num_inputs, stream.get());
  cudaGraph_t graph = nullptr;
  METRO_CUDA_CHECK(cudaStreamEndCapture(stream.get(), &graph));
  cudaGraphExec_t executable = nullptr;
  METRO_CUDA_CHECK(cudaGraphInstantiate(&executable, graph, 0));
  METRO_CUDA_CHECK(cudaGraphDestroy(graph));
  return Graph(executable);
}

double median(std::vector<double> values) {
  std::ranges::nth_element(values, values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2));
  return values[values.size() / 2];
}

}  // namespace

BenchStream::BenchStream() {
  METRO_CUDA_CHECK(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking));
}

BenchStream::~BenchStream() { cudaStreamDestroy(stream_); }

double time_us(const std::vector<Call>& calls, int num_inputs) {
  std::vector<std::unique_ptr<BenchStream>> streams;
  std::vector<Graph> graphs;
  for (const Call& call : calls) {
    streams.push_back(std::make_unique<BenchStream>());
    graphs.push_back(capture(call, num_inputs, *streams.back()));
  }
  const Event begin;
  const Event end;
  std::vector<double> times;
  for (int replay = -5; replay < kReplays; ++replay) {
    begin.record(*streams[0]);
    for (std::size_t r = 0; r < graphs.size(); ++r) {
      METRO_CUDA_CHECK(cudaGraphLaunch(graphs[r].get(), streams[r]->get()));
    }
    end.record(*streams[0]);
    const double us = end.us_since(begin) / kCalls;
    for (const auto& stream : streams) METRO_CUDA_CHECK(cudaStreamSynchronize(stream->get()));
    if (replay >= 0) times.push_back(us);
  }
  return median(times);
}

double time_us(const Call& call, int num_inputs, const BenchStream& stream,
               const std::function<void()>& meet) {
  const Graph graph = capture(call, num_inputs, stream);
  const Event begin;
  const Event end;
  std::vector<double> times;
  for (int replay = -5; replay < kReplays; ++replay) {
    meet();
    begin.record(stream);
    METRO_CUDA_CHECK(cudaGraphLaunch(graph.get(), stream.get()));
    end.record(stream);
    const double us = end.us_since(begin) / kCalls;
    if (replay >= 0) times.push_back(us);
  }
  return median(times);
}

}  // namespace metro::route_bench
