#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Draws the pictures of README and the site: docs/img/*.svg. usage: draw.py [--check]

The routing in them is computed, by the rules in plain Python, and the curves are read from
data/results. --check draws nothing and exits 1 when a picture is not what it would be.
"""
import collections
import csv
import itertools
import pathlib
import sys

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "img"

# A card of its own colour, so that a picture can be read on any page.
STYLE = """<style>
  .card { fill: #ffffff; stroke: #c9d1d9 } .box { fill: #f3f5f7; stroke: #9aa5b1 } .idle { fill: #ffffff; stroke: #b8c1cb }
  .on { fill: #0f766e } .extra { fill: #c2410c } .line { stroke: #6b7785; fill: none } .axis { stroke: #c9d1d9 }
  text { font-family: system-ui, -apple-system, "Segoe UI", Helvetica, Arial, sans-serif; fill: #1f2933 }
  .dim { fill: #5b6772 } .inverse { fill: #ffffff } .good { fill: #0f766e } .bad { fill: #c2410c }
  .c0 { stroke: #c2410c } .c1 { stroke: #5b6772 } .c2 { stroke: #0f766e } .c3 { stroke: #4f46e5 }
  .t0 { fill: #c2410c } .t1 { fill: #5b6772 } .t2 { fill: #0f766e } .t3 { fill: #4f46e5 }
  @media (prefers-color-scheme: dark) {
    .card { fill: #161b22; stroke: #3d444d } .box { fill: #21262d; stroke: #6e7681 } .idle { fill: #161b22; stroke: #545d68 }
    .on { fill: #14b8a6 } .extra { fill: #f97316 } .line { stroke: #9aa5b1 } .axis { stroke: #3d444d }
    text { fill: #e6edf3 } .dim { fill: #9aa5b1 } .inverse { fill: #0d1117 } .good { fill: #2dd4bf } .bad { fill: #fb923c }
    .c0 { stroke: #fb923c } .c1 { stroke: #9aa5b1 } .c2 { stroke: #2dd4bf } .c3 { stroke: #a5b4fc }
    .t0 { fill: #fb923c } .t1 { fill: #9aa5b1 } .t2 { fill: #2dd4bf } .t3 { fill: #a5b4fc }
  }
</style>"""

# Three GPUs with three slots each; experts A, C and E have a second replica.
SLOTS = [["A", "B", "E"], ["C", "D", "A"], ["E", "F", "C"]]
TOKENS = [("A", "C"), ("A", "E"), ("C", "E")]


def replicas(expert):
    return [(gpu, slot) for gpu, slots in enumerate(SLOTS) for slot, name in enumerate(slots) if name == expert]


def even():
    """{(token, expert): slot}: the i-th token of an expert goes to its replica i mod count."""
    seen, choice = collections.Counter(), {}
    for token, experts in enumerate(TOKENS):
        for expert in experts:
            of = replicas(expert)
            choice[token, expert] = of[seen[expert] % len(of)]
            seen[expert] += 1
    return choice


def optimal():
    """One replica for each active expert, so that the busiest GPU activates as few as any choice allows."""
    active = sorted({expert for experts in TOKENS for expert in experts})
    best = min(
        itertools.product(*(replicas(expert) for expert in active)),
        key=lambda chosen: (busiest(set(chosen)), chosen),
    )
    slot_of = dict(zip(active, best, strict=True))
    return {(token, expert): slot_of[expert] for token, experts in enumerate(TOKENS) for expert in experts}


def busiest(slots):
    return max(collections.Counter(gpu for gpu, _ in slots).values())


def text(x, y, words, size=17, kind="", anchor="start", weight="normal"):
    return (f'<text x="{x:g}" y="{y:g}" font-size="{size}" class="{kind}" text-anchor="{anchor}" '
            f'font-weight="{weight}">{words}</text>')


def svg(width, height, title, parts):
    head = (f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}">\n'
            f"<title>{title}</title>\n{STYLE}\n")
    card = f'<rect class="card" x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="10"/>\n'
    return head + card + "\n".join(parts) + "\n</svg>\n"


def panel(top, choice, title, verdict, kind):
    """Tokens on the left, GPUs with their replicas on the right; what is read from memory is filled."""
    used = set(choice.values())
    first = {expert: min(slot for (_, name), slot in choice.items() if name == expert) for expert in "ACE"}
    parts = [text(20, top + 28, title, 20, weight="bold")]
    gpu_x = [236, 396, 556]
    slot_at = {}
    boxes = []
    for gpu, slots in enumerate(SLOTS):
        boxes.append(f'<rect class="box" x="{gpu_x[gpu]}" y="{top + 52}" width="144" height="92" rx="8"/>')
        count = sum(1 for where in used if where[0] == gpu)
        boxes.append(text(gpu_x[gpu] + 72, top + 134, f"GPU {gpu}: reads {count}", 16, "dim", "middle"))
        for slot, name in enumerate(slots):
            x = gpu_x[gpu] + 12 + slot * 42
            slot_at[gpu, slot] = (x + 18, top + 64)
            on = (gpu, slot) in used
            extra = on and first.get(name) != (gpu, slot)
            shade = ("extra" if extra else "on") if on else "idle"
            boxes.append(f'<rect class="{shade}" x="{x}" y="{top + 64}" width="36" height="40" rx="5"/>')
            boxes.append(text(x + 18, top + 91, name, 19, "inverse" if on else "dim", "middle", "bold" if on else "normal"))
    parts += boxes
    for token, experts in enumerate(TOKENS):
        y = top + 52 + token * 32
        parts.append(f'<rect class="box" x="20" y="{y}" width="172" height="28" rx="14"/>')
        parts.append(text(106, y + 20, f"token {token + 1} &#8594; {experts[0]}, {experts[1]}", 17, "", "middle"))
    parts.append(f'<path class="line" stroke-width="2" d="M 200 {top + 98} h 22 m -7 -6 l 7 6 l -7 6"/>')
    parts.append(text(20, top + 172, verdict, 18, kind, weight="bold"))
    return parts


def overview():
    split, least = even(), optimal()
    many, few = busiest(set(split.values())), busiest(set(least.values()))
    assert (many, few) == (2, 1)
    parts = panel(8, split, "Even split (EPLB): tokens are balanced",
                  f"Every replica is woken: each GPU reads {many} experts' weights.", "bad")
    parts.append('<path class="axis" d="M 20 200 H 700"/>')
    parts += panel(204, least, "METRO: activated experts are balanced",
                   f"One replica of each active expert: each GPU reads {few}.", "good")
    parts.append(text(20, 416, "Letters are experts; A, C and E have two replicas. Filled: its weights are read.", 16, "dim"))
    return svg(720, 432, "Three tokens, six experts, nine replicas, three GPUs: the even split against METRO", parts)


def curves(trace="learned-256e-top8-decode", placement="homed"):
    """{name: [(tokens per GPU, max activated)]} of the headline table."""
    with (ROOT / "data" / "results" / "headline.csv").open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if (row["trace"], row["placement"]) == (trace, placement)]
    names = ["even", "EPLB off", "optimal", "moe-TP"]
    return {name: [(int(row["tokens/GPU"]), float(row[name])) for row in rows] for name in names}


def regimes():
    """Max activated by batch size: where a router gains, and where it can only avoid losing."""
    lines = curves()
    left, right, top, bottom, most = 60, 560, 96, 330, 26
    sizes = [size for size, _ in lines["even"]]
    x = {size: left + (right - left) * i / (len(sizes) - 1) for i, size in enumerate(sizes)}

    def y(value):
        return bottom - (bottom - top) * value / most

    parts = [text(20, 32, "Experts that the busiest GPU reads, by batch", 20, weight="bold"),
             text(20, 56, "256 experts, top-8, 16 GPUs, 1.5x replicas; simulated, routing of a small trained MoE", 15, "dim")]
    for value in (0, 8, 16, 24):
        parts.append(f'<path class="axis" d="M {left} {y(value):.1f} H {right}"/>')
        parts.append(text(left - 10, y(value) + 5, str(value), 15, "dim", "end"))
    for size in sizes:
        parts.append(text(x[size], bottom + 22, str(size), 15, "dim", "middle"))
    parts.append(text((left + right) / 2, bottom + 46, "tokens per GPU", 16, "dim", "middle"))
    shown = {"even": "even split", "EPLB off": "EPLB off, home", "optimal": "optimal", "moe-TP": "moe-TP"}
    place = {"even": 0, "EPLB off": -26, "optimal": 0, "moe-TP": 26}
    for i, (name, points) in enumerate(lines.items()):
        path = " L ".join(f"{x[size]:.1f} {y(value):.1f}" for size, value in points)
        dash = ' stroke-dasharray="7 5"' if name in ("EPLB off", "moe-TP") else ""
        parts.append(f'<path class="c{i}" fill="none" stroke-width="3"{dash} d="M {path}"/>')
        parts.append(text(right + 10, y(points[-1][1]) + 6 + place[name], shown[name], 16, f"t{i}", weight="bold"))
    gap = x[sizes[3]]
    parts.append(f'<path class="line" stroke-dasharray="3 5" d="M {gap:.1f} {top - 8} V {bottom}"/>')
    parts.append(text(gap - 8, top - 10, "experts idle: route", 15, "dim", "end"))
    parts.append(text(gap + 8, top - 10, "all active: do not lose", 15, "dim"))
    return svg(720, 392, "Max activated experts by tokens per GPU: even split, EPLB off, optimal, moe-TP", parts)


def homed():
    """What `homed` adds to a placement without replicas."""
    rows = [["A", "B", "C"], ["D", "E", "F"], ["G", "H", "I"]]
    seconds = ["D", "G", "A"]
    parts = [text(20, 32, "Placement homed", 20, weight="bold"),
             text(20, 56, "Every expert has a home; second replicas of hot experts stand elsewhere.", 16, "dim")]
    for gpu, (homes, second) in enumerate(zip(rows, seconds, strict=True)):
        x = 20 + gpu * 228
        parts.append(f'<rect class="box" x="{x}" y="76" width="212" height="86" rx="8"/>')
        for i, name in enumerate([*homes, second]):
            at = x + 14 + i * 47
            is_home = i < len(homes)
            parts.append(f'<rect class="{"on" if is_home else "idle"}" x="{at}" y="88" width="40" height="40" rx="5"/>')
            parts.append(text(at + 20, 115, name, 19, "inverse" if is_home else "", "middle", "bold"))
        parts.append(text(x + 106, 152, f"GPU {gpu}: 3 homes + 1", 16, "dim", "middle"))
    parts.append(text(20, 190, "All active: homes serve, E / G experts a GPU, as with EPLB off.", 17, "good", weight="bold"))
    parts.append(text(20, 214, "Some idle: the second replicas take experts off the busiest GPU.", 17, "good", weight="bold"))
    return svg(720, 232, "Placement homed: three GPUs with three homes and one second replica each", parts)


def main():
    drawn = {"overview.svg": overview(), "regimes.svg": regimes(), "homed.svg": homed()}
    stale = []
    for name, picture in drawn.items():
        path = FOLDER / name
        if "--check" not in sys.argv[1:]:
            FOLDER.mkdir(exist_ok=True)
            path.write_text(picture, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != picture:
            stale.append(name)
    if stale:
        sys.exit(f"draw: docs/img/{', docs/img/'.join(stale)} is not what tools/draw.py draws; run it")


if __name__ == "__main__":
    main()
