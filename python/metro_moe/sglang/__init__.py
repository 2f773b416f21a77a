# SPDX-License-Identifier: Apache-2.0
"""SGLang: its recordings as traces, placements for it to start with, and METRO as its dispatch.

    trace = metro_moe.sglang.read_recording(glob("recorder/*.pt"), phase="decode")
    placement = metro_moe.place(trace.loads(), num_replicas=288, num_gpus=32, algorithm="homed")
    metro_moe.sglang.write_expert_location(placement, "location.json")   # --init-expert-location
    METRO_SGLANG_DECODE=home python -m sglang.launch_server ...           # docs/sglang.md
"""

from metro_moe.sglang.dispatch import install, uninstall
from metro_moe.sglang.location import expert_location, read_expert_location, write_expert_location
from metro_moe.sglang.plugin import register
from metro_moe.sglang.recorder import load_recording, read_recording, recorded_loads, recorded_trace

__all__ = [
    "expert_location",
    "install",
    "load_recording",
    "read_expert_location",
    "read_recording",
    "recorded_loads",
    "recorded_trace",
    "register",
    "uninstall",
    "write_expert_location",
]
