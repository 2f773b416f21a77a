/* SPDX-License-Identifier: Apache-2.0 */
/* As route.cpp, in C11. */
#include <metro/c.h>
#include <stdio.h>

int main(void) {
  const double loads[] = {40, 30, 20, 10};
  const metro_placement_request request = {.num_replicas = 6, .num_gpus = 2};
  metro_placement* placement = NULL;
  metro_router* router = NULL;
  metro_status status = metro_placement_place(loads, 1, 4, &request, "homed", &placement);
  if (status == METRO_OK) status = metro_router_create(placement, 0, "optimal", NULL, &router);

  const int32_t topk_ids[] = {0, 1, 0, 2}; /* [2 tokens][top-2] */
  int32_t replica_ids[4];
  if (status == METRO_OK) status = metro_router_route(router, topk_ids, 2, 2, replica_ids);
  if (status == METRO_OK) {
    for (int i = 0; i < 4; ++i) printf("%d ", replica_ids[i]);
    printf("\n");
  } else {
    fprintf(stderr, "%s\n", metro_last_error());
  }
  metro_router_destroy(router);
  metro_placement_destroy(placement);
  return status;
}
