// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <string>

#include "metro/advise.hpp"

namespace metro {

/// What the sentences need beside the rows.
struct ReasonFacts {
  int experts_per_gpu = 0;  ///< without replicas, of the fullest GPU
  bool has_slo = false;
  double margin = 0;
};

/// The two sentences of an advice that is chosen: why, and what the alternatives cost. All their
/// figures are a table's, in the same digits.
std::array<std::string, 2> reasons(const Advice& advice, const ReasonFacts& facts);

/// Figures as sentences and tables write them.
std::string tpot_text(const AdviceRow& row);       ///< "12.34"
std::string goodput_text(const AdviceRow& row);    ///< "1.234"
std::string activated_text(const AdviceRow& row);  ///< "12.34"
std::string kv_cost_text(const AdviceRow& row);    ///< GB of a GPU, "7.1"
std::string kv_share_text(const AdviceRow& row);   ///< per cent of the KV cache, "12.3"
/// "homed+optimal at 1.25x", "moe-TP"
std::string candidate_text(const AdviceCandidate& candidate);

}  // namespace metro
