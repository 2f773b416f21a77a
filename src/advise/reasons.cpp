// SPDX-License-Identifier: Apache-2.0
#include "advise/reasons.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "advise/choice.hpp"

namespace metro {
namespace {

/// A busiest GPU with so much of its experts active has nothing left to route away.
constexpr double kSaturated = 0.97;

class Writer {
 public:
  Writer(const Advice& advice, const ReasonFacts& facts)
      : advice_(advice), facts_(facts), off_(advice.rows[advice.off]), choice_(advice.choice()) {}

  [[nodiscard]] std::array<std::string, 2> write() const {
    const bool slo_lost = facts_.has_slo && !advice_.by_goodput;
    const std::string opening = slo_lost ? "No candidate keeps the SLO; by TPOT, " : "";
    if (choice_.candidate.is_off()) return {opening + why_off() + ".", cost_of_off() + "."};
    if (choice_.candidate.replication == 1) {
      return {opening + why_changed() + ".", cost_of_sharding() + "."};
    }
    return {opening + why_changed() + ".", cost_of_replicas() + "."};
  }

 private:
  [[nodiscard]] std::string figure(const AdviceRow& row) const {
    return advice_.by_goodput ? goodput_text(row) + " requests/s within the SLO"
                              : tpot_text(row) + " ms a token";
  }

  /// The same without its unit.
  [[nodiscard]] std::string number(const AdviceRow& row) const {
    return advice_.by_goodput ? goodput_text(row) : tpot_text(row);
  }

  /// The best row of those that `take`; nullptr where none can be built.
  template <typename Take>
  [[nodiscard]] const AdviceRow* best(Take&& take) const {
    const AdviceRow* found = nullptr;
    for (const AdviceRow& row : advice_.rows) {
      if (!row.error.empty() || !take(row.candidate)) continue;
      const bool better = found == nullptr || (row.eligible != found->eligible
                                                   ? row.eligible
                                                   : gain(row, *found, advice_.by_goodput) > 0);
      if (better) found = &row;
    }
    return found;
  }
  [[nodiscard]] const AdviceRow* best_replicated() const {
    return best([](const AdviceCandidate& c) { return c.replication > 1; });
  }
  [[nodiscard]] const AdviceRow* sharded() const {
    return best([](const AdviceCandidate& c) { return c.tensor_sharded; });
  }
  [[nodiscard]] const AdviceRow* groups() const {
    return best([](const AdviceCandidate& c) { return c.replication == 1 && c.shards > 1; });
  }
  /// What engines do at that replication.
  [[nodiscard]] const AdviceRow* even(double replication) const {
    return best([replication](const AdviceCandidate& c) {
      return c.policy == kEvenPolicy && c.replication == replication && c.shards == 1;
    });
  }

  /// "; eplb+even at 1.25x, as engines do, gives ..."
  [[nodiscard]] std::string as_engines_do(const AdviceRow& beside) const {
    const AdviceRow* row = even(beside.candidate.replication);
    if (row == nullptr || row == &beside) return "";
    return fmt::format("; {}, as engines do, gives {}", candidate_text(row->candidate),
                       number(*row));
  }

  [[nodiscard]] std::string moe_tp_gives() const {
    const AdviceRow* row = sharded();
    std::string text = row == nullptr ? "moe-TP cannot be built" : "moe-TP gives " + number(*row);
    const AdviceRow* grouped = groups();
    if (grouped == nullptr || grouped == &choice_) return text;
    return text + fmt::format(" and {} {}", candidate_text(grouped->candidate), number(*grouped));
  }

  [[nodiscard]] std::string groups_give() const {
    const AdviceRow* row = groups();
    if (row == nullptr) return "no groups can share experts here";
    return fmt::format("{} gives {}", candidate_text(row->candidate), number(*row));
  }

  [[nodiscard]] static std::string cost(const AdviceRow& row) {
    return fmt::format("{} GB of each GPU, {} % of the KV cache", kv_cost_text(row),
                       kv_share_text(row));
  }

  [[nodiscard]] std::string why_off() const {
    const AdviceRow* other = best_replicated();
    if (other == nullptr) {
      return fmt::format("EPLB off gives {}, and replicas cannot be built here", figure(off_));
    }
    std::string text = fmt::format("EPLB off gives {} and the best replicas ({}) {}", figure(off_),
                                   candidate_text(other->candidate), number(*other));
    const double better = gain(*other, off_, advice_.by_goodput);
    if (!other->eligible) {
      text += fmt::format(
          ", but those serve {} of the {} requests at {:.1f} output tokens/s instead of {:.1f}",
          other->result.completed, other->result.submitted, other->result.output_tokens_per_s,
          off_.result.output_tokens_per_s);
    } else if (better > 0) {
      text += fmt::format(", a gain within the margin of {:g} %", 100 * facts_.margin);
    }
    if (off_.result.max_activated >= kSaturated * facts_.experts_per_gpu) {
      text += fmt::format(", since decode activates {} of the {} experts of the busiest GPU anyway",
                          activated_text(off_), facts_.experts_per_gpu);
    } else {
      text += fmt::format(", which activate {} experts on the busiest GPU instead of {}",
                          activated_text(*other), activated_text(off_));
    }
    return text + as_engines_do(*other);
  }

  [[nodiscard]] std::string cost_of_off() const {
    const AdviceRow* other = best_replicated();
    if (other == nullptr) return moe_tp_gives();
    return fmt::format("Those replicas would take {}, and {}", cost(*other), moe_tp_gives());
  }

  [[nodiscard]] std::string why_changed() const {
    std::string text =
        fmt::format("{} gives {}", candidate_text(choice_.candidate), figure(choice_));
    if (!off_.error.empty()) return text + ", and EPLB off cannot be built here";
    const double better = gain(choice_, off_, advice_.by_goodput);
    text += fmt::format(" against {} with EPLB off ({:+.1f} %)", number(off_),
                        (advice_.by_goodput ? 100 : -100) * better);
    if (!off_.eligible) {
      text += fmt::format(", which completes {} of {} requests", off_.result.completed,
                          off_.result.submitted);
    }
    if (choice_.candidate.tensor_sharded || choice_.candidate.shards > 1) {
      text += fmt::format(
          ", since each GPU loads {} experts' worth of bytes a layer and the busiest one with "
          "whole "
          "experts {}",
          activated_text(choice_), activated_text(off_));
      if (choice_.candidate.replication > 1) text += as_engines_do(choice_);
    } else {
      text += fmt::format(", since decode activates {} experts on the busiest GPU instead of {}",
                          activated_text(choice_), activated_text(off_));
      text += as_engines_do(choice_);
    }
    return text;
  }

  [[nodiscard]] std::string cost_of_replicas() const {
    return fmt::format("It takes {}, and {}", cost(choice_), moe_tp_gives());
  }

  [[nodiscard]] std::string cost_of_sharding() const {
    const AdviceRow* other = best_replicated();
    if (other == nullptr) return "It takes nothing from the KV cache";
    return fmt::format(
        "It takes nothing from the KV cache, the best replicas ({}) give {} for {}, and {}",
        candidate_text(other->candidate), number(*other), cost(*other),
        choice_.candidate.tensor_sharded ? groups_give() : moe_tp_gives());
  }

  const Advice& advice_;
  const ReasonFacts& facts_;
  const AdviceRow& off_;
  const AdviceRow& choice_;
};

}  // namespace

std::string tpot_text(const AdviceRow& row) {
  return fmt::format("{:.2f}", row.result.tpot_ms.mean);
}
std::string goodput_text(const AdviceRow& row) {
  return fmt::format("{:.3f}", row.result.goodput_requests_per_s);
}
std::string activated_text(const AdviceRow& row) {
  return fmt::format("{:.2f}", row.result.max_activated);
}
std::string kv_cost_text(const AdviceRow& row) {
  return fmt::format("{:.1f}", row.result.memory.replica_bytes * 1e-9);
}
std::string kv_share_text(const AdviceRow& row) {
  return fmt::format("{:.1f}", 100 * row.kv_share_lost);
}

std::string candidate_text(const AdviceCandidate& candidate) {
  if (candidate.replication == 1) return candidate.name();
  return fmt::format("{} at {:g}x", candidate.name(), candidate.replication);
}

std::array<std::string, 2> reasons(const Advice& advice, const ReasonFacts& facts) {
  return Writer(advice, facts).write();
}

}  // namespace metro
