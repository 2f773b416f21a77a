# SPDX-License-Identifier: Apache-2.0
"""All ranks or none: one rank that maps otherwise than the others changes outputs.

Asked once a model, while vLLM warms up. It goes through torch's store, not a collective: a rank without the
plugin never answers, and is not waited for longer than `seconds`.
"""

from __future__ import annotations

import datetime
from typing import Any


def _default_store() -> Any:
    import torch.distributed as dist

    return dist.distributed_c10d._get_default_store()


def all_fine(fine: bool, group: Any) -> bool:
    """Whether it went well on every rank of the group, which all call this together."""
    import torch

    if group.world_size <= 1:
        return fine
    flag = torch.tensor([int(fine)], dtype=torch.int32)
    torch.distributed.all_reduce(flag, op=torch.distributed.ReduceOp.MIN, group=group.cpu_group)
    return bool(flag.item())


def all_equal(value: Any, group: Any) -> bool:
    """Whether this integer tensor, on the host, is the same on every rank; all call this together."""
    import torch

    if group.world_size <= 1:
        return True
    both = torch.stack([value, -value - 1])  # the maximum of ~v is the complement of the minimum of v
    torch.distributed.all_reduce(both, op=torch.distributed.ReduceOp.MAX, group=group.cpu_group)
    return bool((both[0] == -both[1] - 1).all())


def agree(mine: str, name: str, ranks: list[int], rank: int, seconds: float = 60, store: Any = None) -> str:
    """'' if every rank of the group said the same as this one, else why not; the same answer on all ranks.

    The first verdict that reaches the store stands: whoever has waited too long writes one against.
    """
    if len(ranks) <= 1:
        return ""
    store = _default_store() if store is None else store
    place = f"metro/{name}/{ranks[0]}-{ranks[-1]}-{len(ranks)}"
    verdict = f"{place}/verdict"
    store.set(f"{place}/{rank}", mine)

    def wait(key: str, limit: float) -> str | None:
        try:
            store.wait([key], datetime.timedelta(seconds=limit))
            return store.get(key).decode()
        except Exception:
            return None

    if rank == 0:
        found = "on"
        for other in range(len(ranks)):
            said = wait(f"{place}/{other}", seconds)
            if said is None:
                found = f"rank {other} does not answer"
                break
            if said != mine:
                found = f"rank 0 has {mine}, rank {other} has {said}"
                break
    else:
        if wait(verdict, 2 * seconds * 1.1) is not None:
            stands = store.get(verdict).decode()
            return "" if stands == "on" else stands
        found = "rank 0 does not answer"
    stands = store.compare_set(verdict, "", found).decode()
    return "" if stands == "on" else stands
