// SPDX-License-Identifier: Apache-2.0
#include "metro/router.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "metro/error.hpp"

namespace metro {

std::string_view to_string(PolicyNeeds needs) noexcept {
  switch (needs) {
    case PolicyNeeds::kOwnRows:
      return "own-rows";
    case PolicyNeeds::kBitmap:
      return "bitmap";
    case PolicyNeeds::kIds:
      break;
  }
  return "ids";
}

const PolicyInfo* find_policy(std::string_view name) {
  const auto table = policies();
  const auto found = std::ranges::find(table, name, &PolicyInfo::name);
  return found == table.end() ? nullptr : &*found;
}

const PolicyInfo& require_policy(std::string_view name) {
  if (const PolicyInfo* info = find_policy(name)) return *info;
  std::string names;
  for (const PolicyInfo& known : policies()) {
    names += names.empty() ? "" : ", ";
    names += known.name;
  }
  throw Error(ErrorCode::kUsage, fmt::format("unknown policy '{}', known: {}", name, names));
}

Router::Router(const LayerPlacement& placement, std::string_view policy,
               const RouteOptions& options) {
  const PolicyInfo& info = require_policy(policy);
  placement.validate();
  if (options.num_nodes < 1 || placement.num_gpus % options.num_nodes != 0) {
    throw Error(ErrorCode::kUsage, fmt::format("{} nodes do not divide {} GPUs", options.num_nodes,
                                               placement.num_gpus));
  }
  policy_ = info.make(placement, options);
}

}  // namespace metro
