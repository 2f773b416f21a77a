// SPDX-License-Identifier: Apache-2.0
#include "report/chrome_trace.hpp"

#include <fmt/format.h>

#include <iterator>
#include <set>

namespace metro::report {

std::string chrome_trace(const std::vector<TimelineSlice>& slices) {
  // Some 100,000 events of a fixed shape: written straight, as a JSON document of them would take
  // many times the memory. Names are ours and need no escapes.
  std::string text = "{\"displayTimeUnit\": \"ns\", \"traceEvents\": [\n";
  auto out = std::back_inserter(text);
  std::set<int> gpus;
  for (const TimelineSlice& slice : slices) gpus.insert(slice.gpu);
  for (const int gpu : gpus) {
    fmt::format_to(out,
                   "{{\"name\": \"process_name\", \"ph\": \"M\", \"pid\": {0}, \"args\": "
                   "{{\"name\": \"GPU {0}\"}}}},\n",
                   gpu);
  }
  for (const TimelineSlice& slice : slices) {
    const bool is_experts = slice.name == "experts";
    fmt::format_to(out,
                   "{{\"name\": \"{}{}\", \"cat\": \"{}\", \"ph\": \"X\", \"pid\": {}, \"tid\": 0, "
                   "\"ts\": {:.3f}, \"dur\": {:.3f}, \"args\": {{\"step\": {}",
                   slice.name, slice.straggler ? " (straggler)" : "",
                   is_experts ? "experts" : "other", slice.gpu, slice.start_us, slice.duration_us,
                   slice.step);
    if (slice.layer >= 0) fmt::format_to(out, ", \"layer\": {}", slice.layer);
    if (is_experts) {
      fmt::format_to(out, ", \"activated\": {}, \"tokens\": {}", slice.activated, slice.tokens);
    }
    text += "}},\n";
  }
  if (text.ends_with(",\n")) text.erase(text.size() - 2, 1);
  return text + "]}\n";
}

}  // namespace metro::report
