// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>

#include "metro/placement.hpp"
#include "metro/simulate.hpp"
#include "sim/expert_table.hpp"
#include "sim/routing_pool.hpp"

namespace metro::sim {

/// Values by the text that describes what they are made from; each is made once, by the first that
/// asks, while others who want the same one wait.
template <typename Value>
class SharedByKey {
 public:
  std::shared_ptr<Value> get(const std::string& key,
                             const std::function<std::shared_ptr<Value>()>& make) {
    std::shared_ptr<Entry> entry;
    {
      const std::scoped_lock lock(mutex_);
      std::shared_ptr<Entry>& found = entries_[key];
      if (found == nullptr) found = std::make_shared<Entry>();
      entry = found;
    }
    const std::scoped_lock lock(entry->mutex);
    if (entry->value == nullptr) entry->value = make();
    return entry->value;
  }

 private:
  struct Entry {
    std::mutex mutex;
    std::shared_ptr<Value> value;
  };
  std::mutex mutex_;
  std::map<std::string, std::shared_ptr<Entry>> entries_;
};

}  // namespace metro::sim

namespace metro {

struct SimulationCache::Parts {
  sim::SharedByKey<const sim::RoutingPool> pools;
  sim::SharedByKey<const Placement> placements;
  sim::SharedByKey<sim::ExpertTable> tables;
};

}  // namespace metro
