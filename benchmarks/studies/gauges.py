"""Whether orthonormal gauges between the steps of healing help; writes docs/tensorize-gauges.md.

`python benchmarks/studies/gauges.py` compresses the middle layer of the dense networks of
`benchmarks/studies/tensorize.py`, trains that layer alone for an epoch towards the outputs of the
dense network by Adam, with and without moving the gauge of its cores between steps, and tells the
accuracy on validation images. Results are kept in runs/tensorize/gauges.json.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks.pages import spread, write_table
from benchmarks.studies.runs import kept
from benchmarks.studies.tensorize import BATCH, HOME, SEEDS, WIDTH, Inputs, dense, images, of
from ftnn.arrays.contraction import contract
from ftnn.tensorized import Linear
from ftnn.tensorized.fit import move_gauge

TIMES = 128
FORMATS = ("mpo", "tt")
RATES = (1e-3, 3e-3)
EVERY = (0, 1, 10)
"""Steps between changes of the gauge; 0 for none."""

Entry = dict[str, Tensor]


def canonical(layer: Linear, optimizer: torch.optim.Adam) -> None:
    """Make all cores but the root orthonormal towards it, and carry the moments of Adam along.

    With A = Q R, gradients of Q are those of A times R^T, and gradients of R B those of B times
    R^-T from the left. The first moment is linear in them. The second is that of independent
    entries: it is multiplied by the squares of the same matrix.
    """
    graph, cores = layer.graph, [core.detach() for core in layer.cores]
    for first, (second, bond) in graph.parents.items():
        before = cores[first]
        move_gauge(cores, graph.cores, first, second, bond)
        names, there = graph.cores[first], graph.cores[second]
        if cores[first] is before:
            continue
        inner = [name for name in names if name != bond]
        q, a = (
            contract([x], [names], (*inner, bond)).flatten(0, -2) for x in (cores[first], before)
        )
        factor = q.T @ a  # A = Q R
        inverse = torch.linalg.inv(factor)
        for core, legs, matrix in ((first, names, factor), (second, there, inverse.T)):
            state = optimizer.state.get(layer.cores[core])
            if not state:
                continue
            new = tuple(f"{bond}'" if name == bond else name for name in legs)
            for key, own in (("exp_avg", matrix), ("exp_avg_sq", matrix.square())):
                state[key] = contract([own, state[key]], [(f"{bond}'", bond), legs], new)
    for parameter, core in zip(layer.cores, cores, strict=True):
        parameter.data.copy_(core)


def measure(inputs: Inputs, data: dict, format: str, every: int, rate: float, seed: int) -> float:
    """Train the layer for an epoch; return the validation accuracy."""
    layer = of(format, lambda x: x.second)(inputs, WIDTH * WIDTH // TIMES).requires_grad_()
    before, after = inputs.model[:2], inputs.model[3:]
    with torch.no_grad():
        rows = before(data["train"][0])
        goals = inputs.model(data["train"][0]).log_softmax(1)
    optimizer = torch.optim.Adam(layer.parameters(), rate)
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(seed)).split(BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(order))
    for step, index in enumerate(order, 1):
        optimizer.zero_grad()
        found = after(layer(rows[index])).log_softmax(1)
        kl_div(found, goals[index], log_target=True, reduction="batchmean").backward()
        optimizer.step()
        schedule.step()
        if every and step % every == 0:
            canonical(layer, optimizer)
    with torch.no_grad():
        found = nn.Sequential(before, layer, after)(data["val"][0]).argmax(1)
    return float((found == data["val"][1]).double().mean())


def main() -> None:
    """Measure, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    seeds = parser.parse_args().seeds
    data = images()
    found: dict[tuple[str, float, int], list[float]] = {}
    for seed in seeds:
        inputs = Inputs(dense(seed, data).requires_grad_(False), data)
        for format in FORMATS:
            for rate in RATES:
                for every in EVERY:
                    key = (format, rate, every)
                    value = kept(
                        HOME / "gauges.json",
                        f"{format}, {rate}, {every}, {seed}",
                        lambda: measure(inputs, data, format, every, rate, seed),  # noqa: B023
                    )
                    found.setdefault(key, []).append(100 * value)
    lines: list[list[str]] = []
    for format in FORMATS:
        for rate in RATES:
            cells = [found[format, rate, every] for every in EVERY]
            lines.append([format, f"{rate:g}", *(spread(cell) for cell in cells)])
    heads = ["format", "rate", "none", "every step", f"every {EVERY[2]} steps"]
    write_table("tensorize-gauges", heads, lines)


if __name__ == "__main__":
    main()
