// SPDX-License-Identifier: Apache-2.0
#include "names.hpp"

#include "core/named_rows.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"

namespace metro::cli {
std::vector<std::string_view> policy_names() { return row_names(policies()); }
std::vector<std::string_view> algorithm_names() { return row_names(placement_algorithms()); }
std::string describe_policies() { return row_rules(policies()); }
std::string describe_algorithms() { return row_rules(placement_algorithms()); }

}  // namespace metro::cli
