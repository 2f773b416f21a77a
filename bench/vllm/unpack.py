# SPDX-License-Identifier: Apache-2.0
"""Check and unpack what pack.py wrote, side by side: `python unpack.py .carry/vllm /tmp/site`."""

import concurrent.futures
import hashlib
import pathlib
import sys
import tarfile


def unpack(archive, expected, site):
    if hashlib.sha256(archive.read_bytes()).hexdigest() != expected:
        raise SystemExit(f"{archive}: sha256 differs from SHA256SUMS; pack and carry it again")
    with tarfile.open(archive, "r:xz") as tar:
        tar.extractall(site, filter="data")


def main():
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    source, site = map(pathlib.Path, sys.argv[1:])
    site.mkdir(parents=True, exist_ok=True)
    lines = (source / "SHA256SUMS").read_text().splitlines()
    with concurrent.futures.ProcessPoolExecutor() as pool:
        jobs = []
        for expected, name in (line.split() for line in lines):
            jobs.append(pool.submit(unpack, source / name, expected, site))
        for job in jobs:
            job.result()


if __name__ == "__main__":
    main()
