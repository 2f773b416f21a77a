# SPDX-License-Identifier: Apache-2.0
"""What docs/upstream/ offers, alone. The other two modules are in test_runners.py and test_ordered.py."""

import pathlib
import re

import numpy as np
import pytest
import torch
from choice_reference import choose, max_activated, tables
from moe import random_layer

from metro_moe.vllm import activated

ROOT = pathlib.Path(__file__).parents[3]


@pytest.mark.parametrize("seed", range(5))
def test_the_recorded_load_says_how_many_experts_each_rank_reads(seed):
    random = np.random.default_rng(seed)
    loads, want = [], []
    for _ in range(3):
        table, count = tables(random_layer(random, 16, 8), 16)
        ids = torch.from_numpy(random.integers(0, 16, (4, 3)))
        out, load = choose(ids, table, count, "hash", 4)
        loads.append(load)
        want.append(max_activated(out, 24, 4))
    assert activated.max_activated(torch.stack(loads), 4) == pytest.approx(np.mean(want))
    assert activated.activated_per_rank(torch.stack(loads), 4).sum() == (torch.stack(loads) > 0).sum()


def test_ranks_must_divide():
    with pytest.raises(ValueError, match="24 replicas do not go over 5 ranks"):
        activated.activated_per_rank(torch.zeros(1, 24), 5)


@pytest.mark.parametrize("page", sorted((ROOT / "docs/upstream").glob("*.md")), ids=lambda page: page.stem)
def test_pages_name_files_that_are_there(page):
    named = re.findall(r"`((?:python|tests)/[\w/.]+)`", page.read_text())
    assert named and all((ROOT / name).exists() for name in named)
