// SPDX-License-Identifier: Apache-2.0
#include "python_policy.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "array.hpp"
#include "metro/error.hpp"

namespace metro::python {
namespace {

class PythonPolicy final : public RoutingPolicy {
 public:
  /// With the GIL held.
  PythonPolicy(std::string name, nb::handle function, const LayerPlacement& placement,
               FirstError& errors)
      : name_(std::move(name)),
        function_(function),
        num_experts_(placement.num_experts),
        slot_to_expert_(placement.replica_to_expert),
        placement_(nb::cast(placement)),
        errors_(errors) {}

  ~PythonPolicy() override {
    const nb::gil_scoped_acquire gil;
    placement_.reset();
  }

  void route(TopkView topk, std::span<std::int32_t> replica_ids) noexcept override {
    if (!errors_.is_set()) {
      const nb::gil_scoped_acquire gil;
      try {
        call(topk, replica_ids);
        return;
      } catch (...) {
        errors_.keep();
      }
    }
    std::ranges::fill(replica_ids, kMasked);
  }

 private:
  void call(TopkView topk, std::span<std::int32_t> replica_ids) {
    const auto rows = static_cast<std::size_t>(topk.num_tokens);
    const auto columns = static_cast<std::size_t>(topk.topk);
    const nb::object ids = nb::cast(
        to_numpy(std::vector<std::int32_t>(topk.ids.begin(), topk.ids.end()), {rows, columns}));
    const nb::object given = function_(placement_, ids);
    const IdMatrix chosen(given, fmt::format("what policy '{}' gave", name_).c_str());
    if (chosen.rows() != rows || chosen.columns() != columns) {
      fail(fmt::format("has shape [{}, {}], must be [{}, {}] as topk_ids", chosen.rows(),
                       chosen.columns(), rows, columns));
    }
    for (std::size_t i = 0; i < replica_ids.size(); ++i) {
      check(i / columns, i % columns, topk.ids[i], chosen.ids()[i]);
    }
    std::ranges::copy(chosen.ids(), replica_ids.begin());
  }

  void check(std::size_t row, std::size_t column, std::int32_t expert, std::int32_t slot) const {
    if (expert < 0 || expert >= num_experts_) {
      if (slot != kMasked) {
        fail(fmt::format("[{}][{}] is {}, must be -1: the id there is {}", row, column, slot,
                         expert));
      }
      return;
    }
    const auto at = static_cast<std::size_t>(slot);
    if (slot < 0 || at >= slot_to_expert_.size() || slot_to_expert_[at] != expert) {
      std::vector<std::size_t> replicas;
      for (std::size_t s = 0; s < slot_to_expert_.size(); ++s) {
        if (slot_to_expert_[s] == expert) replicas.push_back(s);
      }
      fail(fmt::format("[{}][{}] is {}, must be a replica of expert {}: one of {}", row, column,
                       slot, expert, fmt::join(replicas, ", ")));
    }
  }

  [[noreturn]] void fail(const std::string& text) const {
    throw Error(ErrorCode::kInput, fmt::format("what policy '{}' gave {}", name_, text));
  }

  std::string name_;
  nb::handle function_;
  int num_experts_;
  std::vector<std::int32_t> slot_to_expert_;
  nb::object placement_;
  FirstError& errors_;
};

}  // namespace

void FirstError::keep() noexcept {
  const std::scoped_lock lock(mutex_);
  if (!error_) error_ = std::current_exception();
}

bool FirstError::is_set() const noexcept {
  const std::scoped_lock lock(mutex_);
  return error_ != nullptr;
}

void FirstError::raise() const {
  const std::scoped_lock lock(mutex_);
  if (error_) std::rethrow_exception(error_);
}

std::unique_ptr<RoutingPolicy> make_python_policy(const std::string& name, nb::handle function,
                                                  const LayerPlacement& placement,
                                                  FirstError& errors) {
  const nb::gil_scoped_acquire gil;
  return std::make_unique<PythonPolicy>(name, function, placement, errors);
}

}  // namespace metro::python
