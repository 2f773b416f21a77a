# SPDX-License-Identifier: Apache-2.0
"""Compiles the plugin's kernels for sm_90, which needs no GPU; run by test_compile.py without the interpreter."""

from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource, compile

from metro_moe.vllm import counters, exchange, gather, replica_choice

TYPES = {
    "ids": "*i32", "out": "*i32", "chosen": "*i32", "num_real": "*i32", "table": "*i64", "count": "*i64", "load": "*i32",
    "record": "*i1", "row": "*i64", "words": "*i32", "expert_of": "*i64",
    "keys": "*i64", "masks": "*i64",
}  # fmt: skip


def build(kernel, **constants):
    """Arguments that are not named above are int32."""
    names = kernel.arg_names
    if not constants.get("HAS_NUM_REAL", True):
        constants["num_real"] = None
    signature = {name: "constexpr" if name in constants else TYPES.get(name, "i32") for name in names}
    source = ASTSource(kernel, signature, {(names.index(name),): value for name, value in constants.items()})
    binary = compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]
    print(f"{kernel.__name__} {constants}: {len(binary)} bytes")


_, solve, apply = replica_choice._kernels()
_, begin, sample = counters._kernels()
_, pack, unpack = exchange._kernels()
for padded in (False, True):
    build(solve, HAS_NUM_REAL=padded, EXPERTS=256, GPUS=16, BLOCK=256)
    for policy in replica_choice.POLICIES:
        build(apply, HAS_NUM_REAL=padded, POLICY=policy, BLOCK=256)
    build(sample, HAS_NUM_REAL=padded, CLOCK=True, EVERY=16, SLOTS=512, GPUS=16, BLOCK=256)
    build(pack, HAS_NUM_REAL=padded, WORDS=8, BLOCK=256)
build(begin, BEGIN=5)
build(unpack, WORDS=8, EXPERTS=256)
build(gather._kernel()[1], BLOCK=256)
