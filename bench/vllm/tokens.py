# SPDX-License-Identifier: Apache-2.0
"""Requests whose greedy tokens a mapping may not change, and how often replicas are rearranged under them.

Requests come 13 at a time and end two steps apart, so graphs of 16 and of 4 rows hold 13, 12, ..., 2 real ones,
and the replicas are shared by 8 GPUs that are not there: a batch of one request activates 4 experts and leaves 4
GPUs or more empty.
"""

import math

AT_ONCE, STEPS = 13, 32  # requests of one call, and the steps that it takes
NEVER = 10**9  # steps between rearrangements
GPUS = {"METRO_VLLM_NUM_GPUS": "8"}


def num_calls(requests):
    return math.ceil(requests / AT_ONCE)


def step_interval(requests, rearrangements):
    """Steps between rearrangements, so that there are as many as were asked for."""
    interval = num_calls(requests) * STEPS // (rearrangements + 1)
    if interval < 2:
        raise ValueError(f"{requests} requests are too few for {rearrangements} rearrangements")
    return interval


def prompts_of(call):
    return [{"prompt_token_ids": [(31 * call + 7 * b + 3 * i) % 1021 + 2 for i in range(8)]} for b in range(AT_ONCE)]


def count_rearrangements():
    from vllm.distributed.eplb.eplb_state import EplbState

    rearrange, seen = EplbState.rearrange, []

    def counted(self, *args, **kwargs):
        result = rearrange(self, *args, **kwargs)
        seen.append(kwargs.get("is_profile", False))
        return result

    EplbState.rearrange = counted
    return seen
