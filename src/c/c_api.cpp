// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "metro/c.h"
#include "metro/error.hpp"
#include "metro/homes.hpp"
#include "metro/io.hpp"
#include "metro/metrics.hpp"
#include "metro/model.hpp"
#include "metro/modelled_time.hpp"
#include "metro/placer.hpp"
#include "metro/router.hpp"
#include "routing/modelled_bound.hpp"

struct metro_placement {
  metro::Placement placement;
};

struct metro_cost {
  std::shared_ptr<const metro::ExpertCost> cost;
};

struct metro_router {
  metro::Router router;
  metro::MetricsCounter counter;
  metro::TimeCounter clock;
  metro::routing::ModelledBound bound;
  int num_replicas;
};

namespace {

using metro::Error;
using metro::ErrorCode;

thread_local std::string last_error;

metro_status fail(metro_status status, const char* message) noexcept {
  try {
    last_error = message;
  } catch (...) {
    last_error.clear();
  }
  return status;
}

/// The one place where exceptions become codes.
template <typename F>
metro_status guarded(F&& f) noexcept {
  try {
    f();
    return METRO_OK;
  } catch (const Error& error) {
    return fail(static_cast<metro_status>(error.code()), error.what());
  } catch (const std::exception& error) {
    return fail(METRO_INTERNAL, error.what());
  } catch (...) {
    return fail(METRO_INTERNAL, "unknown exception");
  }
}

static_assert(METRO_USAGE == static_cast<int>(ErrorCode::kUsage));
static_assert(METRO_INPUT == static_cast<int>(ErrorCode::kInput));
static_assert(METRO_INFEASIBLE == static_cast<int>(ErrorCode::kInfeasible));
static_assert(METRO_DEVICE == static_cast<int>(ErrorCode::kDevice));

template <typename T>
void require(const T* pointer, const char* name) {
  if (pointer == nullptr) throw Error(ErrorCode::kUsage, fmt::format("{} is null", name));
}

void require_range(const char* name, std::int64_t value, std::int64_t least, std::int64_t most) {
  if (value >= least && value <= most) return;
  throw Error(ErrorCode::kUsage, fmt::format("{} is {}, must be {}..{}", name, value, least, most));
}

std::size_t product(std::int32_t rows, std::int32_t columns) {
  return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
}

const metro::LayerPlacement& layer_at(const metro_placement& placement, std::int32_t layer) {
  const auto& layers = placement.placement.layers;
  require_range("layer", layer, 0, static_cast<std::int64_t>(layers.size()) - 1);
  return layers[static_cast<std::size_t>(layer)];
}

template <typename T>
const T* data_or_null(const std::vector<T>& values) noexcept {
  return values.empty() ? nullptr : values.data();
}

/// Replica ids of the router's layer, checked.
std::span<const std::int32_t> slots(const metro_router& router, const std::int32_t* replica_ids,
                                    std::size_t num_ids) {
  if (num_ids > 0) require(replica_ids, "replica_ids");
  const std::span<const std::int32_t> ids(replica_ids, num_ids);
  const auto is_bad = [&](std::int32_t id) { return id < -1 || id >= router.num_replicas; };
  if (const auto bad = std::ranges::find_if(ids, is_bad); bad != ids.end()) {
    throw Error(ErrorCode::kInput, fmt::format("replica_ids[{}] is {}, must be a slot 0..{} or -1",
                                               bad - ids.begin(), *bad, router.num_replicas - 1));
  }
  return ids;
}

}  // namespace

const char* metro_last_error() { return last_error.c_str(); }

const char* metro_version() { return METRO_VERSION; }

metro_status metro_placement_place(const double* loads, int32_t num_layers, int32_t num_experts,
                                   const metro_placement_request* request, const char* algorithm,
                                   metro_placement** placement) {
  return guarded([&] {
    require(loads, "loads");
    require(request, "request");
    require(algorithm, "algorithm");
    require(placement, "placement");
    require_range("num_layers", num_layers, 1, metro::kMaxReplicas);
    require_range("num_experts", num_experts, 1, metro::kMaxExperts);
    const auto or_one = [](std::int32_t value) { return value == 0 ? 1 : value; };
    const metro::Loads values{
        num_layers, num_experts, {loads, loads + product(num_layers, num_experts)}};
    *placement =
        new metro_placement{metro::place(values,
                                         {request->num_replicas, request->num_gpus,
                                          or_one(request->num_groups), or_one(request->num_nodes)},
                                         algorithm)};
  });
}

metro_status metro_placement_create(const int32_t* replica_to_expert, int32_t num_layers,
                                    int32_t num_replicas, int32_t num_experts, int32_t num_gpus,
                                    metro_placement** placement) {
  return guarded([&] {
    require(replica_to_expert, "replica_to_expert");
    require(placement, "placement");
    require_range("num_layers", num_layers, 1, metro::kMaxReplicas);
    require_range("num_replicas", num_replicas, 1, metro::kMaxReplicas);
    require_range("num_experts", num_experts, 1, metro::kMaxExperts);
    require_range("num_gpus", num_gpus, 1, metro::kMaxGpus);
    metro::Placement made{num_experts, num_gpus, {}};
    const std::vector<std::int32_t> gpus = metro::contiguous_gpus(num_replicas, num_gpus);
    for (std::int32_t layer = 0; layer < num_layers; ++layer) {
      const std::int32_t* const row = replica_to_expert + product(layer, num_replicas);
      made.layers.push_back({num_experts, num_gpus, {row, row + num_replicas}, gpus, {}, {}});
    }
    made.validate();
    *placement = new metro_placement{std::move(made)};
  });
}

metro_status metro_placement_read(const char* path, metro_placement** placement) {
  return guarded([&] {
    require(path, "path");
    require(placement, "placement");
    *placement = new metro_placement{metro::io::read_placement(path)};
  });
}

metro_status metro_placement_write(const metro_placement* placement, const char* path) {
  return guarded([&] {
    require(placement, "placement");
    require(path, "path");
    metro::io::write_file(path, metro::io::format_placement(placement->placement));
  });
}

void metro_placement_destroy(metro_placement* placement) { delete placement; }

int32_t metro_placement_num_layers(const metro_placement* placement) {
  return placement == nullptr ? 0 : static_cast<int32_t>(placement->placement.layers.size());
}

int32_t metro_placement_num_experts(const metro_placement* placement) {
  return placement == nullptr ? 0 : placement->placement.num_experts;
}

int32_t metro_placement_num_gpus(const metro_placement* placement) {
  return placement == nullptr ? 0 : placement->placement.num_gpus;
}

int32_t metro_placement_num_shards(const metro_placement* placement) {
  return placement == nullptr ? 0 : placement->placement.shards;
}

metro_status metro_placement_layer(const metro_placement* placement, int32_t layer,
                                   metro_layer* view) {
  return guarded([&] {
    require(placement, "placement");
    require(view, "view");
    const metro::LayerPlacement& of = layer_at(*placement, layer);
    *view = {of.num_replicas(), of.replica_to_expert.data(), of.replica_to_gpu.data(),
             data_or_null(of.home), data_or_null(of.shares)};
  });
}

metro_status metro_placement_homes(const metro_placement* placement, int32_t layer,
                                   int32_t* homes) {
  return guarded([&] {
    require(placement, "placement");
    require(homes, "homes");
    std::ranges::copy(metro::find_homes(layer_at(*placement, layer)), homes);
  });
}

metro_status metro_cost_create(const double* phi_us, size_t num_phi, double beyond_us,
                               double base_us, metro_cost** cost) {
  return guarded([&] {
    require(phi_us, "phi_us");
    require(cost, "cost");
    *cost = new metro_cost{std::make_shared<const metro::ExpertCost>(
        metro::ExpertTimes{{phi_us, phi_us + num_phi}, beyond_us, base_us})};
  });
}

metro_status metro_cost_read(const char* path, int32_t hidden, int32_t intermediate,
                             const char* dtype, metro_cost** cost) {
  return guarded([&] {
    require(path, "path");
    require(cost, "cost");
    metro::io::ExpertChoice choice{.hidden = hidden, .intermediate = intermediate};
    if (dtype != nullptr) {
      choice.weights = metro::find_data_type(dtype);
      if (!choice.weights) {
        throw Error(ErrorCode::kUsage,
                    fmt::format("dtype is '{}', must be one of fp32, bf16, fp8, fp4", dtype));
      }
    }
    *cost = new metro_cost{
        std::make_shared<const metro::ExpertCost>(metro::io::read_expert_cost(path, choice))};
  });
}

void metro_cost_destroy(metro_cost* cost) { delete cost; }

metro_status metro_router_create(const metro_placement* placement, int32_t layer,
                                 const char* policy, const metro_route_options* options,
                                 metro_router** router) {
  return metro_router_create_with_cost(placement, layer, policy, options, nullptr, router);
}

metro_status metro_router_create_with_cost(const metro_placement* placement, int32_t layer,
                                           const char* policy, const metro_route_options* options,
                                           const metro_cost* cost, metro_router** router) {
  return guarded([&] {
    require(placement, "placement");
    require(policy, "policy");
    require(router, "router");
    const metro::LayerPlacement& of = layer_at(*placement, layer);
    metro::RouteOptions route;
    route.layer = layer;
    if (options != nullptr) {
      route.seed = options->seed;
      if (options->num_nodes != 0) route.num_nodes = options->num_nodes;
    }
    route.cost = cost == nullptr ? metro::ExpertCost::standard() : cost->cost;
    *router = new metro_router{metro::Router(of, policy, route), metro::MetricsCounter(of),
                               metro::TimeCounter(of, route.cost),
                               metro::routing::ModelledBound(of, route.cost), of.num_replicas()};
  });
}

void metro_router_destroy(metro_router* router) { delete router; }

metro_status metro_router_route(metro_router* router, const int32_t* topk_ids, int32_t num_tokens,
                                int32_t topk, int32_t* replica_ids) {
  // Failures apart, nothing here allocates.
  if (router == nullptr) return fail(METRO_USAGE, "router is null");
  if (num_tokens < 0 || topk < 0) return fail(METRO_USAGE, "num_tokens and topk must be >= 0");
  const std::size_t count = product(num_tokens, topk);
  if (count > 0 && (topk_ids == nullptr || replica_ids == nullptr)) {
    return fail(METRO_USAGE, "topk_ids or replica_ids is null");
  }
  // Written while they are read; only each id in its own place has been read by then.
  const auto in = reinterpret_cast<std::uintptr_t>(topk_ids);
  const auto out = reinterpret_cast<std::uintptr_t>(replica_ids);
  if (in != out && std::max(in, out) - std::min(in, out) < count * sizeof(std::int32_t)) {
    return fail(METRO_USAGE, "replica_ids overlaps topk_ids, must be apart or the same array");
  }
  router->router.route({{topk_ids, count}, num_tokens, topk}, {replica_ids, count});
  return METRO_OK;
}

metro_status metro_router_count(metro_router* router, const int32_t* replica_ids, size_t num_ids,
                                int32_t* activated_per_gpu, int64_t* tokens_per_gpu) {
  return guarded([&] {
    require(router, "router");
    const std::span<const std::int32_t> ids = slots(*router, replica_ids, num_ids);
    const metro::RoutingMetrics& metrics = router->counter.count(ids);
    if (activated_per_gpu != nullptr) {
      std::ranges::copy(metrics.activated_per_gpu, activated_per_gpu);
    }
    if (tokens_per_gpu != nullptr) std::ranges::copy(metrics.tokens_per_gpu, tokens_per_gpu);
  });
}

metro_status metro_router_time(metro_router* router, const int32_t* replica_ids, size_t num_ids,
                               double* us_per_gpu) {
  return guarded([&] {
    require(router, "router");
    require(us_per_gpu, "us_per_gpu");
    const std::span<const std::int32_t> ids = slots(*router, replica_ids, num_ids);
    std::ranges::copy(router->clock.count(ids).per_gpu_us, us_per_gpu);
  });
}

metro_status metro_router_time_bound(metro_router* router, const int32_t* topk_ids,
                                     int32_t num_tokens, int32_t topk, double* us) {
  return guarded([&] {
    require(router, "router");
    require(us, "us");
    require_range("num_tokens", num_tokens, 0, INT32_MAX);
    require_range("topk", topk, 0, INT32_MAX);
    const std::size_t count = product(num_tokens, topk);
    if (count > 0) require(topk_ids, "topk_ids");
    *us = router->bound.of({{topk_ids, count}, num_tokens, topk});
  });
}
