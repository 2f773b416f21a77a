#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What replica budgets by layer would give over the same budget in every layer.

usage: layer_budgets.py [--gpus G] [--replication X,...] [--tokens N,...] [--batches N] [--metro METRO] TRACE.npy

A layer gets 0 or more extra slots on every GPU, so that memory stays equal over GPUs; all layers together
get as many as a uniform replication X gives, divided so that the sum over layers of max activated (`optimal`
on `homed`) is least. That is found on the first half of the sequences (placement from its first half,
batches from its second). The gain is then measured on batches of the trace's second half, with
placements of its first. `hindsight` divides by the measured batches themselves: a bound on what any
division can give. Prints a Markdown table, sums over 1x's; "all" is one division for all batch sizes.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import tempfile



def write_layer(path, routes, layer, about, sequences):
    """A trace of one layer and of the first `sequences` sequences."""
    import numpy as np  # the rest is tested where NumPy is not

    lengths = about["sequence_lengths"][:sequences]
    np.save(path, np.ascontiguousarray(routes[: sum(lengths), layer : layer + 1]))
    of_layer = {key: about[key] for key in ("num_experts", "topk", "model", "phase")}
    of_layer |= {"num_layers": 1, "sequence_lengths": lengths}
    path.with_suffix(".json").write_text(json.dumps(of_layer), encoding="utf-8")


def compare(options, path, experts, most, seed):
    """[max activated with k extra slots on each GPU, for k = 0 .. most], by tokens."""
    replication = [1 + k * options.gpus / experts for k in range(most + 1)]
    line = [options.metro, "compare", "--json", "--trace", str(path), "--gpus", str(options.gpus)]
    line += ["--replication", ",".join(map(repr, replication)), "--tokens", ",".join(map(str, options.tokens))]
    line += ["--policy", "optimal", "--algorithm", "homed", "--batches", str(options.batches), "--seed", str(seed)]
    done = subprocess.run(line, check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"layer_budgets: {done.stderr.strip()}")
    curves = {tokens: [None] * (most + 1) for tokens in options.tokens}
    for row in json.loads(done.stdout)["rows"]:
        curves[row["tokens"]][round((row["replication"] - 1) * experts / options.gpus)] = row["max_activated"]
    return curves


def divide(curves, slots):
    """Extra slots of each layer, at most `slots` in all, with the least sum of the curves: a knapsack, exactly."""
    best = [(0.0, ())] * (slots + 1)
    for curve in curves:
        best = [
            min((best[n - k][0] + curve[k], (*best[n - k][1], k)) for k in range(min(n, len(curve) - 1) + 1))
            for n in range(slots + 1)
        ]
    return best[slots][1]


def total(curves, given):
    return sum(curve[k] for curve, k in zip(curves, given, strict=True))


def over_sizes(layers):
    """One curve for all batch sizes, each of which weighs as much: what one placement must serve."""
    sizes = layers[0].keys()
    whole = {tokens: sum(of[tokens][0] for of in layers) for tokens in sizes}
    steps = range(len(layers[0][next(iter(sizes))]))
    return [[sum(of[tokens][k] / whole[tokens] for tokens in sizes) / len(whole) for k in steps] for of in layers]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trace", type=pathlib.Path)
    parser.add_argument("--gpus", type=int, default=16)
    parser.add_argument("--replication", default="1.125,1.25", help="uniform replications to divide anew")
    parser.add_argument("--tokens", default="8,16,32,64,128")
    parser.add_argument("--batches", type=int, default=300)
    parser.add_argument("--metro", default="build/release/metro")
    options = parser.parse_args()
    import numpy as np

    options.tokens = [int(tokens) for tokens in options.tokens.split(",")]
    routes = np.load(options.trace)
    about = json.loads(options.trace.with_suffix(".json").read_text(encoding="utf-8"))
    experts, layers, sequences = about["num_experts"], routes.shape[1], len(about["sequence_lengths"])
    uniform = {float(x): round((float(x) - 1) * experts / options.gpus) for x in options.replication.split(",")}
    most = 2 * max(uniform.values()) + 2
    learned, measured = [], []
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "layer.npy"
        for layer in range(layers):
            write_layer(path, routes, layer, about, sequences // 2)
            learned.append(compare(options, path, experts, most, seed=1))
            write_layer(path, routes, layer, about, sequences)
            measured.append(compare(options, path, experts, most, seed=2))
    header = ["uniform", "tokens", "uniform, of 1x", "by layer", "gain", "hindsight", "slots a GPU"]
    print("| " + " | ".join(header) + " |\n|" + "---|" * len(header))
    for replication, slots in uniform.items():
        for tokens in [*options.tokens, "all"]:
            if tokens == "all":
                train, test = over_sizes(learned), over_sizes(measured)
            else:
                train, test = ([of[tokens] for of in curves] for curves in (learned, measured))
            given = divide(train, slots * layers)
            off, base, ours = total(test, [0] * layers), total(test, [slots] * layers), total(test, given)
            bound = total(test, divide(test, slots * layers))
            cells = [f"{replication:g}x", str(tokens), f"{base / off:.3f}", f"{ours / off:.3f}"]
            cells += [f"{100 * (1 - ours / base):.1f} %", f"{100 * (1 - bound / base):.1f} %"]
            print("| " + " | ".join([*cells, f"{min(given)} to {max(given)}, uniform {slots}"]) + " |")


if __name__ == "__main__":
    main()
