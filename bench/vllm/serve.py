# SPDX-License-Identifier: Apache-2.0
"""`vllm serve` as a user starts it: does its OpenAI endpoint answer, and what does its metrics endpoint hold?"""

import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request

import models


def run_serve(trial):
    """`vllm serve`, a completion and its Prometheus endpoint."""
    folder, shape = models.write_config(tempfile.mkdtemp(), trial["model"], trial["layers"])
    models.toy_tokenizer(folder, shape["vocab_size"])
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "serve", folder,
               "--load-format", "dummy", "--max-model-len", "512", "--enforce-eager",
               "--gpu-memory-utilization", "0.4", "--moe-backend", "triton",
               "--generation-config", "vllm", "--host", "127.0.0.1", "--port", "8123"]  # fmt: skip
    if "attention_config" in trial.get("options", {}):
        command += ["--attention-backend", trial["options"]["attention_config"]["backend"]]
    environment = {**os.environ, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    server = subprocess.Popen(command, env=environment)
    base = "http://127.0.0.1:8123"
    try:
        began = time.perf_counter()
        while True:
            if server.poll() is not None:
                raise RuntimeError(f"server ended with {server.returncode}")
            try:
                urllib.request.urlopen(f"{base}/health", timeout=2)
                break
            except OSError:
                time.sleep(0.5)
        ready = time.perf_counter() - began
        body = {"model": folder, "prompt": [2, 3, 5, 7], "max_tokens": 16, "ignore_eos": True}
        request = urllib.request.Request(
            f"{base}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        reply = json.load(urllib.request.urlopen(request, timeout=60))
        metrics = urllib.request.urlopen(f"{base}/metrics", timeout=10).read().decode()
        names = {line.split("{")[0].split(" ")[0] for line in metrics.splitlines() if not line.startswith("#")}
        ours = sorted(name for name in names if "metro" in name)
        return {
            "load_s": round(ready, 1),
            "note": f"{reply['usage']['completion_tokens']} tokens served, {len(names)} metrics, ours {ours}",
        }
    finally:
        server.terminate()  # the parent kills what is left of this process group
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
