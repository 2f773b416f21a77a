// SPDX-License-Identifier: Apache-2.0
#include "placement/packing.hpp"

#include <algorithm>
#include <functional>
#include <limits>
#include <numeric>
#include <queue>
#include <utility>

namespace metro {

std::vector<float> to_float32(std::span<const double> load) {
  std::vector<float> weight(load.size());
  std::ranges::transform(load, weight.begin(), [](double tokens) {
    return tokens > std::numeric_limits<float>::max() ? std::numeric_limits<float>::infinity()
                                                      : static_cast<float>(tokens);
  });
  return weight;
}

Packing pack_balanced(std::span<const float> weight, int num_packs) {
  const auto num_items = static_cast<std::int32_t>(weight.size());
  Packing packing{std::vector<std::int32_t>(weight.size()),
                  std::vector<std::int32_t>(weight.size(), 0)};
  if (num_items == num_packs) {
    std::iota(packing.pack.begin(), packing.pack.end(), 0);
    return packing;
  }

  std::vector<std::int32_t> order(weight.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::sort(order, [&](std::int32_t a, std::int32_t b) {
    const float of_a = weight[static_cast<std::size_t>(a)];
    const float of_b = weight[static_cast<std::size_t>(b)];
    return of_a != of_b ? of_a > of_b : a < b;
  });

  const std::int32_t room = num_items / num_packs;
  std::int32_t spare = num_items % num_packs;  // packs that may hold one item more
  std::vector<std::int32_t> size(static_cast<std::size_t>(num_packs), 0);
  using WeightedPack = std::pair<float, std::int32_t>;
  std::priority_queue<WeightedPack, std::vector<WeightedPack>, std::greater<>> lightest;
  for (std::int32_t p = 0; p < num_packs; ++p) lightest.emplace(0.0F, p);

  for (const std::int32_t item : order) {
    while (spare == 0 && size[static_cast<std::size_t>(lightest.top().second)] == room) {
      lightest.pop();  // the last spare place went elsewhere
    }
    const auto [packed, p] = lightest.top();
    lightest.pop();
    const auto i = static_cast<std::size_t>(item);
    packing.pack[i] = p;
    packing.rank[i] = size[static_cast<std::size_t>(p)]++;
    const std::int32_t now = packing.rank[i] + 1;
    if (now > room) --spare;
    if (now < room || (now == room && spare > 0)) lightest.emplace(packed + weight[i], p);
  }
  return packing;
}

}  // namespace metro
