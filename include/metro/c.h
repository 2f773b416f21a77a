/* SPDX-License-Identifier: Apache-2.0 */
#ifndef METRO_C_H
#define METRO_C_H

/*
 * The library for other languages: C11, opaque handles, status codes.
 *
 *     metro_placement* placement = NULL;
 *     if (metro_placement_read("placement.json", &placement) != METRO_OK) puts(metro_last_error());
 *     metro_router* router = NULL;
 *     metro_router_create(placement, 0, "optimal", NULL, &router);
 *     metro_router_route(router, topk_ids, num_tokens, topk, replica_ids);
 *
 * Arrays are the caller's, row-major and read or written during the call only, unless said
 * otherwise. A call that fails leaves its outputs as they were. A null handle or array is
 * METRO_USAGE; destroying null is nothing. Different handles may be used by different threads.
 */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The exit codes of the command line. */
typedef enum metro_status {
  METRO_OK = 0,
  METRO_INTERNAL = 1,   /* out of memory, or a defect of the library */
  METRO_USAGE = 2,      /* an argument is out of its own range */
  METRO_INPUT = 3,      /* data is missing, unreadable or malformed, or does not fit */
  METRO_INFEASIBLE = 4, /* everything is well-formed, but the request is impossible */
  METRO_DEVICE = 5      /* CUDA or the device itself failed */
} metro_status;

/* One line on why this thread's last failed call failed; "" when none has. Valid until this
   thread's next failure. */
const char* metro_last_error(void);

/* "0.1.0" */
const char* metro_version(void);

/* Placements of all MoE layers of a model; immutable. */
typedef struct metro_placement metro_placement;

/* What metro_placement_place must fit; zero num_groups and num_nodes mean 1. */
typedef struct metro_placement_request {
  int32_t num_replicas; /* physical slots of a layer, over all GPUs */
  int32_t num_gpus;
  int32_t num_groups;
  int32_t num_nodes;
} metro_placement_request;

/* Places every layer for loads [num_layers][num_experts]: tokens per expert, finite, >= 0. */
metro_status metro_placement_place(const double* loads, int32_t num_layers, int32_t num_experts,
                                   const metro_placement_request* request, const char* algorithm,
                                   metro_placement** placement);

/* From an engine's physical-to-logical map [num_layers][num_replicas]; the GPUs share the slots
   equally, in order; homes are exact, as metro_placement_homes says. */
metro_status metro_placement_create(const int32_t* replica_to_expert, int32_t num_layers,
                                    int32_t num_replicas, int32_t num_experts, int32_t num_gpus,
                                    metro_placement** placement);

/* A placement file (JSON). */
metro_status metro_placement_read(const char* path, metro_placement** placement);
metro_status metro_placement_write(const metro_placement* placement, const char* path);
void metro_placement_destroy(metro_placement* placement);

/* 0 for null. */
int32_t metro_placement_num_layers(const metro_placement* placement);
int32_t metro_placement_num_experts(const metro_placement* placement);
int32_t metro_placement_num_gpus(const metro_placement* placement); /* groups, if sharded */
/* GPUs that share each replica: 1, or what a file over sharded groups says. */
int32_t metro_placement_num_shards(const metro_placement* placement);

/* One layer, as views that live as long as the placement. */
typedef struct metro_layer {
  int32_t num_replicas;
  const int32_t* replica_to_expert; /* [num_replicas] */
  const int32_t* replica_to_gpu;    /* [num_replicas] */
  const int32_t* home;              /* [num_experts] slot, or null: see metro_placement_homes */
  const double* shares;             /* [num_replicas] weight, or null: equal */
} metro_layer;

metro_status metro_placement_layer(const metro_placement* placement, int32_t layer,
                                   metro_layer* view);

/* Writes the slot that serves each expert under policy `home` to homes [num_experts]: the layer's
   own list, else as few experts on the fullest GPU as its replicas allow, by the fixed rule of
   docs/formats.md. */
metro_status metro_placement_homes(const metro_placement* placement, int32_t layer, int32_t* homes);

/* What the routed experts of one GPU cost in one layer: base_us + the sum of phi(tokens) over its
   replicas that got a token. Immutable. */
typedef struct metro_cost metro_cost;

/* phi_us [num_phi] by tokens: phi_us[0] is 0, and it never falls; beyond_us for each token after
   the last. All finite, >= 0. */
metro_status metro_cost_create(const double* phi_us, size_t num_phi, double beyond_us,
                               double base_us, metro_cost** cost);

/* An expert cost file, or a calibration, of which hidden, intermediate and dtype ("bf16", ...) pick
   the experts; 0, 0 and null leave the choice to the file, which must then have one. */
metro_status metro_cost_read(const char* path, int32_t hidden, int32_t intermediate,
                             const char* dtype, metro_cost** cost);
void metro_cost_destroy(metro_cost* cost);

/* Chooses the replicas of one layer, on the CPU; does not keep the placement. One thread at a
   time. */
typedef struct metro_router metro_router;

typedef struct metro_route_options {
  uint64_t seed;     /* `random` */
  int32_t num_nodes; /* `static`; 0 means 1 */
} metro_route_options;

/* Null options are all zero. */
metro_status metro_router_create(const metro_placement* placement, int32_t layer,
                                 const char* policy, const metro_route_options* options,
                                 metro_router** router);
/* The same under a cost, which `hybrid` routes by and metro_router_time prices with; the router
   keeps what it needs of it. Null: DeepSeek-V3's experts in bf16 on an H100. */
metro_status metro_router_create_with_cost(const metro_placement* placement, int32_t layer,
                                           const char* policy, const metro_route_options* options,
                                           const metro_cost* cost, metro_router** router);
void metro_router_destroy(metro_router* router);

/* Writes the replica (slot) of each id [num_tokens][topk]; `replica_ids` may be `topk_ids`, but not
   overlap it otherwise. -1 and any id that is no expert become -1. Allocates nothing. */
metro_status metro_router_route(metro_router* router, const int32_t* topk_ids, int32_t num_tokens,
                                int32_t topk, int32_t* replica_ids);

/* Counts what `num_ids` replica ids activate: writes [num_gpus] arrays where they are not null.
   METRO_INPUT for an id that is neither a slot nor -1. */
metro_status metro_router_count(metro_router* router, const int32_t* replica_ids, size_t num_ids,
                                int32_t* activated_per_gpu, int64_t* tokens_per_gpu);

/* Prices what `num_ids` replica ids activate under the router's cost: writes us_per_gpu [num_gpus].
   METRO_INPUT as metro_router_count. */
metro_status metro_router_time(metro_router* router, const int32_t* replica_ids, size_t num_ids,
                               double* us_per_gpu);

/* Writes what the slowest GPU takes at least, however [num_tokens][topk] ids are routed. */
metro_status metro_router_time_bound(metro_router* router, const int32_t* topk_ids,
                                     int32_t num_tokens, int32_t topk, double* us);

#ifdef __cplusplus
}
#endif

#endif /* METRO_C_H */
