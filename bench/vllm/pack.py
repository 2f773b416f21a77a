# SPDX-License-Identifier: Apache-2.0
r"""Pack a real vLLM for a GPU machine that has torch but no package index.

    python pack.py --list 0.33.0 | xargs pip download --no-deps --only-binary=:all: -d wheels
    python pack.py --vllm wheels/vllm-*.whl --wheels wheels --out .carry/vllm

Drops what a bf16 run on one architecture never loads, keeps one architecture's code in the
CUDA libraries, and writes .tar.xz archives plus SHA256SUMS, which unpack.py checks.
"""

import argparse
import fnmatch
import hashlib
import lzma
import multiprocessing
import pathlib
import shutil
import struct
import subprocess
import tarfile
import tempfile
import zipfile

# What vllm.LLM and the OpenAI server import beside torch, triton, numba and transformers with theirs.
COMMON = (
    "compressed-tensors==0.17.0", "xgrammar==0.2.8", "apache-tvm-ffi==0.1.11", "outlines_core==0.2.14",
    "llguidance>=1.7,<1.8", "pydantic==2.13.4", "pydantic-core==2.46.4", "annotated-types", "typing-inspection", "fastapi==0.136.3",
    "starlette==1.4.1", "uvicorn", "watchfiles", "prometheus-fastapi-instrumentator",
    "model-hosting-container-standards", "jmespath", "supervisor", "python-multipart", "openai==2.46.0", "jiter", "distro",
    "sniffio", "msgspec", "pyzmq", "cbor2", "cachetools", "pybase64", "partial-json-parser", "loguru", "setproctitle",
    "blake3", "ijson", "depyf==0.20.0", "astor", "dill", "lark==1.2.2", "interegular", "diskcache", "python-json-logger",
)  # fmt: skip
WHEELS = {
    "0.25.1": ("vllm==0.25.1", "openai-harmony==0.0.8", *COMMON),
    # Its metadata asks for torch 2.14, and it runs on 2.11.
    "0.33.0": (
        "vllm==0.33.0", "oss-harmony", "orjson", "pydantic-extra-types", "docstring-parser",
        "anthropic==0.71.0", *COMMON,
    ),
}  # fmt: skip

# Not imported on the bf16 path of the triton and FlashAttention 3 backends.
DROP = (
    "vllm/vllm-rs",
    "vllm/vllm_flash_attn/_vllm_fa2_C*",
    "vllm/_flashmla*",
    "vllm/_flashkda*",
    "vllm/_deepselect*",
    "vllm/_qutlass*",
    "vllm/_rust_tool_parser*",
    "vllm/third_party/deep_gemm/*",
    "vllm/third_party/fmha_sm100/*",
    "vllm/third_party/triton_kernels/*",
    "vllm/vllm_flash_attn/cute/*",
    "vllm/entrypoints/serve/instrumentator/static/*",
    "*.dist-info/sboms/*",
    "*/include/*.h*",
    "*.a",
    "*.pyx",
    "tvm_ffi/include/*",
    "vllm-*.data/*",
)

FATBIN_MAGIC = 0xBA55ED50
PTX, ELF = 1, 2


def sections(image):
    """Yields (name, offset, size) of each section of a 64-bit ELF image."""
    table, = struct.unpack_from("<Q", image, 40)
    entry, count, names = struct.unpack_from("<HHH", image, 58)
    heads = [struct.unpack_from("<IIQQQQ", image, table + i * entry) for i in range(count)]
    for head in heads:
        start = heads[names][4] + head[0]
        yield bytes(image[start : image.index(b"\0", start)]).decode(), head[4], head[5]


def wanted_entries(image, entries, wanted):
    """Bytes of one architecture's machine code; where there is none, of the PTX it can be made from.

    Where there is neither, one entry stays without its body, so that the driver still reads "no
    image for this GPU" and not a broken container.
    """
    code = [e for e in entries if e[:2] == (ELF, wanted)]
    kept = code or [e for e in entries if e[0] == PTX and e[1] <= wanted]
    if kept:
        return b"".join(bytes(image[at : at + length]) for _, _, at, length in kept)
    _, _, at, length = min(entries, key=lambda e: e[3])
    head, = struct.unpack_from("<I", image, at + 4)
    return bytes(image[at : at + head]) + bytes(length - head)


def prune_fatbins(path, wanted):
    """Shrinks each fat-binary container in place; addresses stay, freed bytes become zeros.

    A container is {u32 magic, u16 version, u16 header size, u64 payload size} and then entries
    {u16 kind, u16, u32 header size, u64 payload size, ..., u32 architecture at byte 28}.
    """
    image = bytearray(path.read_bytes())
    for name, offset, size in list(sections(image)):
        if name not in (".nv_fatbin", "__nv_relfatbin"):
            continue
        end = offset + size
        while offset < end:
            magic, _, head, payload = struct.unpack_from("<IHHQ", image, offset)
            if magic != FATBIN_MAGIC:
                offset += 8  # padding between containers
                continue
            body, stop = offset + head, offset + head + payload
            entries, at = [], body
            while at < stop:
                kind, _, entry_head, entry_payload = struct.unpack_from("<HHIQ", image, at)
                arch, = struct.unpack_from("<I", image, at + 28)
                entries.append((kind, arch, at, entry_head + entry_payload))
                at += entry_head + entry_payload
            kept = wanted_entries(image, entries, wanted)
            image[body:stop] = kept + bytes(payload - len(kept))
            struct.pack_into("<Q", image, offset + 8, len(kept))
            offset = stop
    path.write_bytes(image)


def unpack_wheel(wheel, site):
    with zipfile.ZipFile(wheel) as archive:
        names = [n for n in archive.namelist() if not any(fnmatch.fnmatch(n, d) for d in DROP)]
        archive.extractall(site, names)


def write_archive(job):
    out, site, members, preset = job
    with lzma.open(out, "wb", preset=preset) as stream:
        with tarfile.open(fileobj=stream, mode="w|") as tar:
            for member in members:
                tar.add(site / member, arcname=member, recursive=False)
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", choices=WHEELS, metavar="VERSION", help=f"print what to download for vLLM {' or '.join(WHEELS)}")
    parser.add_argument("--vllm", type=pathlib.Path, help="the vLLM wheel")
    parser.add_argument("--wheels", type=pathlib.Path, help="folder of the other wheels")
    parser.add_argument("--out", type=pathlib.Path)
    parser.add_argument("--arch", type=int, default=90, help="compute capability times ten (90: Hopper)")
    parser.add_argument("--preset", type=int, default=9, help="of xz; 6 takes half the time")
    args = parser.parse_args()
    if args.list:
        print("\n".join(WHEELS[args.list]))
        return
    if not (args.vllm and args.wheels and args.out):
        parser.error("--vllm, --wheels and --out are needed")

    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    with tempfile.TemporaryDirectory() as scratch:
        site = pathlib.Path(scratch)
        for wheel in [args.vllm, *sorted(args.wheels.glob("*.whl"))]:
            if wheel.name != args.vllm.name or wheel == args.vllm:
                unpack_wheel(wheel, site)
        libraries = []
        for path in [*site.glob("vllm/**/*.so"), *site.glob("uvloop/*.so")]:  # others are small or do not bear it
            prune_fatbins(path, args.arch)
            subprocess.run(["strip", "--strip-unneeded", path], check=True)
            if path.stat().st_size > 8 << 20:
                libraries.append(path.relative_to(site))
        rest = sorted(p.relative_to(site) for p in site.rglob("*") if p.is_file())
        rest = [p for p in rest if p not in libraries]
        # One archive per large library, so that they unpack side by side.
        jobs = [(args.out / f"{p.name.split('.')[0]}.tar.xz", site, [p], args.preset) for p in libraries]
        jobs.append((args.out / "rest.tar.xz", site, rest, args.preset))
        with multiprocessing.Pool(2) as pool:
            files = pool.map(write_archive, jobs, chunksize=1)
    sums = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.name}" for f in files]
    (args.out / "SHA256SUMS").write_text("\n".join(sums) + "\n")
    for f in files:
        print(f"{f.stat().st_size:>11} {f.name}")


if __name__ == "__main__":
    main()
