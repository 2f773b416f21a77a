// SPDX-License-Identifier: Apache-2.0
#include "sim/expert_times.hpp"

#include <algorithm>
#include <optional>
#include <utility>

#include "core/rng.hpp"
#include "sim/rearrangement.hpp"

namespace metro::sim {
namespace {

std::uint64_t step_key(std::uint64_t seed, std::int64_t step) {
  return mix64(mix64(seed) + static_cast<std::uint64_t>(step));
}

class FullTimes final : public ExpertTimes {
 public:
  FullTimes(const MoeSetup& setup, PlacementRule rule, bool collect_loads)
      : setup_(setup),
        rule_(std::move(rule)),
        collect_loads_(collect_loads),
        layers_(std::make_unique<MoeLayers>(setup)) {
    // Its choices are made from means by batch size; a new placement does not change them.
    if (!setup.choices.empty()) table_ = std::make_unique<ExpertTable>(setup);
    if (collect_loads_) clear_loads();
  }

  LayerSums of_step(const StepTokens& tokens, std::int64_t step,
                    const MoeLayers::Observer* observer) override {
    const std::uint64_t key = step_key(setup_.seed, step);
    const std::size_t choice = table_ == nullptr ? 0 : table_->choice(tokens);
    if (!collect_loads_) return layers_->route_step(tokens, key, choice, observer);
    const MoeLayers::Observer collect = [&](int layer, TopkView batch,
                                            const LayerExperts& experts) {
      add_load(batch, layer % loads_.num_layers);
      if (observer != nullptr) (*observer)(layer, batch, experts);
    };
    return layers_->route_step(tokens, key, choice, &collect);
  }

  double router_us(const StepTokens& tokens) override {
    return table_ == nullptr ? 0 : layers_->router_us(tokens, table_->choice(tokens));
  }

  double rearrange() override {
    if (setup_.placement == nullptr) return 0;
    auto next = std::make_shared<const Placement>(place(loads_, rule_.request, rule_.algorithm));
    const double moved = fetched_slots(*setup_.placement, *next, setup_.num_layers);
    setup_.placement = std::move(next);
    layers_ = std::make_unique<MoeLayers>(setup_);
    clear_loads();
    return moved;
  }

 private:
  void clear_loads() {
    loads_ = {setup_.pool->num_layers(), setup_.pool->num_experts(), {}};
    loads_.tokens.assign(
        static_cast<std::size_t>(loads_.num_layers) * static_cast<std::size_t>(loads_.num_experts),
        0.0);
  }

  void add_load(TopkView batch, int layer) {
    const auto num_experts = static_cast<std::uint32_t>(loads_.num_experts);
    double* load = &loads_.tokens[static_cast<std::size_t>(layer) * num_experts];
    for (const std::int32_t id : batch.ids) {
      if (static_cast<std::uint32_t>(id) < num_experts) load[id] += 1;
    }
  }

  MoeSetup setup_;
  PlacementRule rule_;
  bool collect_loads_;
  std::unique_ptr<MoeLayers> layers_;
  std::unique_ptr<ExpertTable> table_;  // where kAutoPolicy chooses
  Loads loads_;
};

class TableTimes final : public ExpertTimes {
 public:
  TableTimes(std::shared_ptr<ExpertTable> table, MoeSetup setup, PlacementRule rule)
      : table_(std::move(table)), setup_(std::move(setup)), rule_(std::move(rule)) {}

  LayerSums of_step(const StepTokens& tokens, std::int64_t step,
                    const MoeLayers::Observer* observer) override {
    const std::uint64_t key = step_key(setup_.seed, step);
    if (observer == nullptr) return table_->draw(tokens, key);
    if (!layers_) layers_.emplace(setup_);
    return layers_->route_step(tokens, key, table_->choice(tokens), observer);
  }

  double router_us(const StepTokens& tokens) override { return table_->router_us(tokens); }

  double rearrange() override {
    if (setup_.placement == nullptr) return 0;
    if (!moved_) {
      moved_ =
          typical_fetched_slots(*setup_.pool, rule_.request, rule_.algorithm, setup_.num_layers);
    }
    return *moved_;
  }

 private:
  std::shared_ptr<ExpertTable> table_;
  MoeSetup setup_;
  PlacementRule rule_;
  std::optional<MoeLayers> layers_;  // for observed steps
  std::optional<double> moved_;
};

}  // namespace

std::unique_ptr<ExpertTimes> make_full_times(const MoeSetup& setup, const PlacementRule& rule,
                                             bool collect_loads) {
  return std::make_unique<FullTimes>(setup, rule, collect_loads);
}

std::unique_ptr<ExpertTimes> make_table_times(std::shared_ptr<ExpertTable> table,
                                              const MoeSetup& setup, const PlacementRule& rule) {
  return std::make_unique<TableTimes>(std::move(table), setup, rule);
}

}  // namespace metro::sim
