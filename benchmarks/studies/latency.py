"""A map of where tensor layers are faster than dense ones: docs/images/tensorize-latency.png.

`python benchmarks/studies/latency.py` draws what benchmarks/studies/tensorize.py has measured, and
measures what is missing; with `--again` everything is measured anew, with `--draw` nothing. Every
cell is a ratio of medians of rounds in one process, alternating. Marked is the way that was chosen:
W the dense weight, 2 two factors, n the cores one after the other.

`--memory` counts the bytes that layers hold, and the most that a call allocates beside them, in the
way of multiplying that is chosen; it is no matter of time.

`--bound` times what no implementation of the same cores can leave out: the products alone, on terms
that are in place, or one product with the dense weight, where that is faster.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.pages import DOCS, write_table
from benchmarks.studies.runs import kept
from benchmarks.studies.tensorize import (
    BATCHES,
    RESULTS,
    SIZES,
    SPEED_TIMES,
    call,
    known_results,
    peers,
    report_speed,
    speed,
    subjects,
)
from ftnn.measure.memory import keep_freed_memory
from ftnn.measure.timing import Timer, compare
from ftnn.plotting.style import figure, save_figure, style
from ftnn.tensorized import Linear, plan
from ftnn.training.files import write_json

WORDS = {"dense": "W", "halves": "2", "cores": "n"}
"""How plans are marked."""

Ratio = Callable[[dict[str, Any]], tuple[float, str]]


def to_dense(name: str) -> Ratio:
    """Return what gives the time of a layer over that of a dense one, and the mark of its plan."""
    return lambda found: (found[name] / found["dense"], WORDS[found[f"{name}, plan"]])


def to_peer(found: dict[str, Any]) -> tuple[float, str]:
    """Return the time of an MPO over that of tltorch's better mode for the same cores."""
    others = [time for name, time in found.items() if name.startswith("tltorch")]
    return found["mpo"] / min(others), ""


PANELS: dict[str, Ratio] = {
    "MPO / dense": to_dense("mpo"),
    "two matrices / dense": to_dense("svd"),
    "MPO / tltorch's better mode": to_peer,
}
"""Ratios of times, below 1 where ours is faster, and a mark."""


def forget() -> None:
    """Remove measured times from the results, so that they are measured anew."""
    known = known_results()
    write_json(RESULTS, {key: value for key, value in known.items() if key[:6] != "speed,"})


def ratios(
    known: dict[str, Any], ratio: Ratio, gradients: bool
) -> tuple[np.ndarray, dict[tuple[int, int], str]]:
    """Return ratios (rows, inputs), not a number where none was measured, and the marks."""
    values, marks = np.full((len(BATCHES), len(SIZES)), np.nan), {}
    for column, size in enumerate(SIZES):
        for row, batch in enumerate(BATCHES):
            found = known.get(f"speed, {size}, {batch}, {gradients}")
            try:
                values[row, column], marks[row, column] = ratio(found or {})
            except (KeyError, ValueError):  # without tltorch
                continue
    return values, marks


def draw(known: dict[str, Any]) -> None:
    """Draw a map for every ratio, in evaluation and in training."""
    with style():
        fig = figure(7.6, 5.0)
        panels = fig.subplots(2, len(PANELS), sharex=True, sharey=True)
        for line, gradients in zip(panels, (False, True), strict=True):
            for axis, (title, ratio) in zip(line, PANELS.items(), strict=True):
                values, marks = ratios(known, ratio, gradients)
                # a factor of 16 either way; blue is faster, red slower
                picture = axis.imshow(
                    np.log2(values), cmap="RdBu_r", vmin=-4, vmax=4, origin="lower", aspect="auto"
                )
                for (row, column), mark in marks.items():
                    value = values[row, column]
                    axis.text(
                        column, row, f"{value:.2f}\n{mark}" if mark else f"{value:.2f}",
                        ha="center", va="center", fontsize=7, linespacing=1.1,
                        color="white" if abs(np.log2(value)) > 2.5 else "black",
                    )  # fmt: skip
                axis.grid(visible=False)
                axis.set_xticks(range(len(SIZES)), [str(size) for size in SIZES])
                axis.set_yticks(range(len(BATCHES)), [str(batch) for batch in BATCHES])
                if not gradients:
                    axis.set_title(title, fontsize=8.5)
            line[0].set_ylabel(
                ("forward and backward" if gradients else "evaluation") + "\nrows of inputs"
            )
        for axis in panels[-1]:
            axis.set_xlabel("inputs and outputs")
        bar = fig.colorbar(picture, ax=panels, shrink=0.7, ticks=(-4, -2, 0, 2, 4))
        bar.ax.set_yticklabels(["1/16", "1/4", "1", "4", "16"])
        bar.set_label("ratio of times")
        save_figure(fig, DOCS / "images" / "tensorize-latency.png")


def summary(known: dict[str, Any]) -> str:
    """Tell the largest ratio to dense layers in evaluation, and the medians against tltorch."""
    lines = []
    for gradients in (False, True):
        what = "forward and backward" if gradients else "evaluation"
        for title, ratio in PANELS.items():
            values, _ = ratios(known, ratio, gradients)
            if not np.isnan(values).all():
                median, largest = np.nanmedian(values), np.nanmax(values)
                lines.append(f"{what}, {title}: median {median:.2f}, largest {largest:.2f}")
    return "\n".join(lines)


def bound() -> str:
    """Measure tltorch's better mode against the fewest products, and tell the ratios."""
    lines, all_ratios = [], []
    for size in SIZES:
        for batch in BATCHES:
            found = kept(RESULTS, f"bound, {size}, {batch}", lambda: fewest(size, batch))  # noqa: B023
            others = [time for name, time in found.items() if name.startswith("tltorch")]
            if others:
                all_ratios.append(min(others) / min(found["products"], found["dense"]))
                lines.append(f"{size} inputs, {batch} rows: {all_ratios[-1]:.2f}")
    lines.append(f"median: {np.median(all_ratios):.2f}" if all_ratios else "tltorch is missing")
    return "\n".join(lines)


def memory() -> None:
    """Measure the bytes of layers and of calls, and write the table."""
    names = ("mpo", "svd", "tltorch, factorized", "tltorch, reconstructed")
    heads = ["", "inputs", "rows", "dense", *(f"{name} / dense" for name in names), "plan of mpo"]
    lines = []
    for gradients in (False, True):
        what = "forward and backward" if gradients else "forward"
        for size in SIZES:
            for batch in BATCHES:
                found = kept(
                    RESULTS,
                    f"memory, {size}, {batch}, {gradients}",
                    lambda: held(size, batch, gradients),  # noqa: B023
                )
                ratios = [f"{found[n] / found['dense']:.2f}" if n in found else "-" for n in names]
                dense = f"{found['dense'] / 2**20:,.1f} MiB"
                lines.append([what, str(size), str(batch), dense, *ratios, found["mpo, plan"]])
    write_table("tensorize-memory", heads, lines)


def held(size: int, batch: int, gradients: bool) -> dict[str, Any]:
    """Return the bytes of parameters, of what is kept of them, and of a call at its peak."""
    layers, x = subjects(size, batch, gradients)
    found: dict[str, Any] = {}
    for name, layer in layers.items():
        once = call(layer, x)
        once()  # plans, what is kept
        own = [p.numel() * p.element_size() for p in layer.parameters()]
        memory = layer.__dict__.get("_kept", (None, {}))[1]
        arrays = {id(array): array for parts, _ in memory.values() for array in parts}
        cores = {core.data_ptr() for core in layer.parameters()}
        extra = [a.nbytes for a in arrays.values() if a.data_ptr() not in cores]
        found[name] = sum(own) + sum(extra) + peak(once)
    with torch.set_grad_enabled(gradients):
        found["mpo, plan"] = plan(layers["mpo"], batch).kind  # type: ignore[arg-type]
    return found


def peak(once: Callable[[], None]) -> int:
    """Return the most bytes that torch has allocated at a time during a call, less those before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        once()
    results = profiler.profiler.kineto_results  # type: ignore[union-attr]
    events = [event for event in results.events() if event.name() == "[memory]"]
    steps = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(max(np.cumsum([0, *steps])))


def fewest(size: int, batch: int) -> dict[str, float]:
    """Return seconds of tltorch's modes, of the products of two cores, and of a dense one."""
    params = size * size // SPEED_TIMES
    unit = Linear(size, size, "mpo", ranks=1, bias=False).num_params
    layer = Linear(size, size, "mpo", ranks=max(1, params // unit))
    x, weight = torch.randn(batch, size), layer.weight.detach().contiguous()
    halves = layer.halves
    first, second = (factor.detach() for factor in halves.factors(layer.graph, list(layer.cores)))
    before = torch.randn(batch * halves.ins[0], halves.ins[1])
    between = torch.randn(batch, halves.ins[0] * halves.rank, halves.outs[1])
    wide = second.expand(batch, *second.shape)

    def products() -> None:
        torch.mm(before, first.mT)
        torch.bmm(wide, between)

    timers = {name: Timer(call(one, x), target=0.05) for name, one in peers(layer).items()}
    timers["products"] = Timer(products, target=0.05)
    timers["dense"] = Timer(lambda: torch.mm(x, weight.mT), target=0.05)
    return compare(timers)


def main(arguments: list[str] | None = None) -> None:
    """Measure what is missing, or everything, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--again", action="store_true", help="measure everything anew")
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--memory", action="store_true", help="count bytes, in place of times")
    parser.add_argument("--bound", action="store_true", help="time the fewest products")
    chosen = parser.parse_args(arguments)
    if chosen.memory:
        memory()
        return
    if chosen.bound:
        print(bound())
        return
    if chosen.again:
        forget()
    if not chosen.draw:
        keep_freed_memory()
        speed()
    known = known_results()
    report_speed(known)
    draw(known)
    print(summary(known))


if __name__ == "__main__":
    main()
