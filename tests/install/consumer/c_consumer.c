/* SPDX-License-Identifier: Apache-2.0 */
/* The installed C interface from C11; exits 1 when an answer is wrong. */
#include <metro/c.h>
#include <stdio.h>
#include <string.h>

#define CHECK(condition)                                                         \
  do {                                                                           \
    if (!(condition)) {                                                          \
      fprintf(stderr, "%d: %s: %s\n", __LINE__, #condition, metro_last_error()); \
      return 1;                                                                  \
    }                                                                            \
  } while (0)

int main(void) {
  const double loads[] = {4, 3, 2, 1};
  const metro_placement_request request = {.num_replicas = 6, .num_gpus = 2};
  metro_placement* placement = NULL;
  CHECK(metro_placement_place(loads, 1, 4, &request, "homed", &placement) == METRO_OK);
  CHECK(metro_placement_num_experts(placement) == 4 && metro_placement_num_gpus(placement) == 2);

  metro_layer layer;
  CHECK(metro_placement_layer(placement, 0, &layer) == METRO_OK);
  CHECK(layer.num_replicas == 6 && layer.home != NULL);

  metro_router* router = NULL;
  CHECK(metro_router_create(placement, 0, "optimal", NULL, &router) == METRO_OK);
  metro_placement_destroy(placement);

  const int32_t topk_ids[] = {0, 1, 2, 3, -1, 9};
  int32_t replica_ids[6];
  int32_t activated[2];
  CHECK(metro_router_route(router, topk_ids, 3, 2, replica_ids) == METRO_OK);
  CHECK(replica_ids[4] == -1 && replica_ids[5] == -1);
  CHECK(metro_router_count(router, replica_ids, 6, activated, NULL) == METRO_OK);
  CHECK(activated[0] == 2 && activated[1] == 2);
  metro_router_destroy(router);

  placement = NULL;
  CHECK(metro_placement_read("no-such-file.json", &placement) == METRO_INPUT);
  CHECK(placement == NULL && strstr(metro_last_error(), "no-such-file.json") != NULL);
  return 0;
}
