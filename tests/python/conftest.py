# SPDX-License-Identifier: Apache-2.0
"""What the Python tests share: random instances, the command line program, plain oracles."""

import os
import pathlib
import subprocess

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

import metro_moe

ROOT = pathlib.Path(__file__).parents[2]

hypothesis.settings.register_profile(
    "metro", deadline=None, derandomize=True, database=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("metro")

POLICIES = [policy.name for policy in metro_moe.policies()]


def find_cli():
    """The program: $METRO_CLI, or the newest one that was built."""
    if "METRO_CLI" in os.environ:
        return os.environ["METRO_CLI"]
    built = [path for path in ROOT.glob("build/*/metro") if path.is_file()]
    return str(max(built, key=lambda path: path.stat().st_mtime)) if built else None


@pytest.fixture(scope="session")
def cli():
    program = find_cli()
    if program is None:
        pytest.skip("no metro program: build it, or set METRO_CLI")

    def run(*arguments):
        done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
        return done.returncode, done.stdout, done.stderr

    return run


@st.composite
def layer_placements(draw):
    """Any valid layer: experts with one to four replicas in any slots of up to eight GPUs."""
    num_experts = draw(st.integers(1, 12))
    num_gpus = draw(st.integers(1, 8))
    extra = draw(st.lists(st.integers(0, num_experts - 1), max_size=12))
    experts = draw(st.permutations([*range(num_experts), *extra]))
    gpus = draw(st.lists(st.integers(0, num_gpus - 1), min_size=len(experts), max_size=len(experts)))
    home = [draw(st.sampled_from([s for s, x in enumerate(experts) if x == e])) for e in range(num_experts)]
    return metro_moe.LayerPlacement(
        experts, num_experts, num_gpus, replica_to_gpu=gpus, home=draw(st.sampled_from([None, home]))
    )


@st.composite
def instances(draw):
    """A layer and a batch for it, masked ids included."""
    layer = draw(layer_placements())
    topk = draw(st.integers(1, 4))
    row = st.lists(st.integers(-1, layer.num_experts - 1), min_size=topk, max_size=topk)
    rows = draw(st.lists(row, max_size=16))
    return layer, np.array(rows, np.int32).reshape(len(rows), topk)


def least_max_activated(layer, topk_ids):
    """The optimum by augmenting paths: gives each active expert a GPU, at most `limit` a GPU."""
    active = sorted(set(topk_ids.ravel().tolist()) - {-1})
    slots = list(zip(layer.replica_to_expert.tolist(), layer.replica_to_gpu.tolist()))
    candidates = {e: sorted({g for x, g in slots if x == e}) for e in active}

    def fits(limit):
        held = {g: [] for g in range(layer.num_gpus)}

        def place(expert, seen):
            for gpu in candidates[expert]:
                if gpu in seen:
                    continue
                seen.add(gpu)
                if len(held[gpu]) < limit:
                    held[gpu].append(expert)
                    return True
                for other in list(held[gpu]):
                    held[gpu].remove(other)
                    held[gpu].append(expert)
                    if place(other, seen):
                        return True
                    held[gpu].remove(expert)
                    held[gpu].append(other)
            return False

        return all(place(expert, set()) for expert in active)

    limit = 0
    while not fits(limit):
        limit += 1
    return limit
