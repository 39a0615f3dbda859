"""How the cost of a training step grows, and where states overtake dense activations.

`python benchmarks/scaling.py measure` times steps against L, bond dimensions, batch, depth and
threads, and one layer against a dense and a TT layer as the dimension grows (needs `pip install
tensorly-torch tensorly`), and keeps the result in runs/training; `... report` writes
docs/scaling-table.md and docs/images/scaling.png; `... sites` prints how a step on 5 to 40 sites
grows, beside its operations. Time nothing while something else runs.
"""

import argparse
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import ftnn
from benchmarks.pages import DOCS, RUNS, write_table
from benchmarks.training import Work, edges, step_of
from ftnn.measure.floor import Floor, flops, products
from ftnn.measure.memory import keep_freed_memory, peak_bytes
from ftnn.measure.timing import Timer, compare
from ftnn.plotting.style import COLORS, MARKERS, figure, save_figure, style
from ftnn.training import TorchModule
from ftnn.training.files import write_json

HOME = RUNS / "training"
BASE = Work(L=10, phys_in=4, phys=4, D=4, chi=8, batch=64)
SWEEPS: dict[str, tuple[int, ...]] = {
    "L": (5, 10, 20, 50, 100, 200, 500, 1000),
    "chi": (2, 4, 8, 16, 32, 64),
    "D": (1, 2, 4, 8, 16, 32),
    "batch": (4, 16, 64, 256, 1024),
    "depth": (1, 2, 4, 8, 16),
}
LABELS = {"L": "sites L", "chi": "bond χ", "D": "bond D", "batch": "batch", "depth": "layers"}
BITS = (10, 12, 14, 16, 18, 20, 22, 24, 30, 40, 60, 80, 100)
DENSE_BITS, TT_BITS = 14, 24  # two more take tens of GiB
BATCH, BOND = 16, 8
SMALLER = {22: 4, 24: 1}  # batches of dense activations that fit; times are scaled to BATCH
ROUNDS = 3


def sweep(name: str, threads: int) -> list[dict]:
    """Time and memory of a step for every value of one size, the others as in BASE."""
    torch.set_num_threads(threads)
    rows = []
    for value in SWEEPS[name]:
        work = replace(BASE, **{name: value})
        step = work.step()
        row = {
            "value": value,
            "seconds": compare({"step": Timer(step)}, ROUNDS)["step"],
            "bytes": peak_bytes(step),
        }
        print(name, threads, row, flush=True)
        rows.append(row)
    return rows


# ---- one layer from dimension 2^n to 2^n ---------------------------------------------------------


class _Square(nn.Module):
    """Mean square of what a layer returns, as two logits: the step is that of the layer."""

    def __init__(self, layer: nn.Module):
        super().__init__()
        self.layer = layer

    def forward(self, x):
        out = self.layer.apply_cores(x) if isinstance(self.layer, TorchModule) else self.layer(x)
        parts = out if isinstance(out, tuple) else (out,)
        value = sum(part.square().flatten(1).mean(1) for part in parts)
        return torch.stack([value] + [torch.zeros_like(value)] * 9, 1)


def layer_of_states(bits: int, batch: int) -> Callable[[], None]:
    """Linear of bond dimension 8 on states of bond dimension 8, truncated to 8."""
    L = bits // 2
    model = ftnn.Linear((4,) * L, (4,) * L, BOND, BOND)
    module = _Square(TorchModule(model, "float32"))
    cores = tuple(
        torch.randn(batch, a, 4, b) / (4 * a) ** 0.5 for a, b in pairwise(edges(L, 4, BOND))
    )
    return step_of(module, cores)


def layer_of_vectors(bits: int, batch: int) -> Callable[[], None]:
    """Dense layer."""
    return step_of(_Square(nn.Linear(2**bits, 2**bits)), torch.randn(batch, 2**bits))


def layer_of_tensor_trains(bits: int, batch: int) -> Callable[[], None]:
    """TT layer of tltorch, of rank 8, on dense activations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of tltorch's syntax
        from tltorch import FactorizedLinear
    sites = min(bits // 2, 8)  # tltorch runs out of letters for einsum beyond
    dims = tuple(2 ** ((bits + k) // sites) for k in range(sites))
    layer = FactorizedLinear(
        dims, dims, factorization="blocktt", rank=BOND, implementation="factorized"
    )
    return step_of(_Square(layer), torch.randn(batch, 2**bits))


LAYERS = {
    "ftnn.Linear on states": (layer_of_states, 10**6),
    "dense": (layer_of_vectors, DENSE_BITS),
    "TT layer, dense activations": (layer_of_tensor_trains, TT_BITS),
}


def crossover() -> dict[str, list[dict]]:
    """Seconds and bytes of a step of every layer at every dimension that it can reach."""
    torch.set_num_threads(2)
    found: dict[str, list[dict]] = {name: [] for name in LAYERS}
    for bits in BITS:
        for name, (build, most) in LAYERS.items():
            if bits > most:
                continue
            torch.manual_seed(0)
            batch = BATCH if build is layer_of_states else SMALLER.get(bits, BATCH)
            step = build(bits, batch)
            seconds = compare({"step": Timer(step)}, ROUNDS)["step"] * BATCH / batch
            row = {"bits": bits, "seconds": seconds, "bytes": peak_bytes(step), "batch": batch}
            print(name, row, flush=True)
            found[name].append(row)
    return found


def measure() -> None:
    """Measure what is not there yet, and keep it."""
    HOME.mkdir(parents=True, exist_ok=True)
    file = HOME / "scaling.json"
    result = (
        json.loads(file.read_text()) if file.is_file() else {"base": asdict(BASE), "sweeps": {}}
    )
    for name in SWEEPS:
        for threads in (1, 2):
            found = result["sweeps"].setdefault(name, {})
            if str(threads) not in found:
                found[str(threads)] = sweep(name, threads)
                write_json(file, result)
    if "crossover" not in result:
        write_json(file, result | {"crossover": crossover()})


# ---- sites --------------------------------------------------------------------------------------


class _Operators(TorchDispatchMode):
    """Counts the operators of torch that compute, and not those that only make views."""

    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += not func.is_view
        return func(*args, **(kwargs or {}))


def sites() -> None:
    """Print steps on 5 to 40 sites, by turns on one thread, beside their operations."""
    torch.set_num_threads(1)
    steps = {str(L): replace(BASE, L=L).step() for L in (5, 10, 20, 40)}
    floors = {name: Floor(products(step), "torch-cpu") for name, step in steps.items()}
    times = compare({name: Timer(step) for name, step in steps.items()}, rounds=9)
    least = compare(floors)
    rows = {}
    for name, step in steps.items():
        with _Operators() as operators:
            step()
        rows[name] = (times[name], least[name], flops(floors[name].counts), operators.count)
    print("sites, ms a step, ms of its products, GFLOP, operators; all relative to 5 sites")
    for name, row in rows.items():
        ratios = " ".join(f"{a / b:7.2f}" for a, b in zip(row, rows["5"], strict=True))
        seconds, least, work, count = row
        print(
            f"{name:>3} {1e3 * seconds:9.2f} {1e3 * least:9.2f} {work / 1e9:7.3f} {count:6d}",
            ratios,
        )


# ---- report --------------------------------------------------------------------------------------


def slope(rows: list[dict], key: str) -> float:
    """Exponent of growth between the last two values."""
    (a, b) = rows[-2:]
    return float(np.log(b[key] / a[key]) / np.log(b["value"] / a["value"]))


def report() -> None:
    """Write the table and the picture."""
    result = json.loads((HOME / "scaling.json").read_text())
    lines = []
    for name, both in result["sweeps"].items():
        rows = both["2"]
        lines.append(
            [
                f"{LABELS[name]}: {rows[0]['value']} … {rows[-1]['value']}",
                f"{1e3 * rows[0]['seconds']:.1f} … {1e3 * rows[-1]['seconds']:.0f} ms",
                f"{slope(rows, 'seconds'):.2f}",
                f"{rows[0]['bytes'] / 2**20:.1f} … {rows[-1]['bytes'] / 2**20:.0f} MiB",
                f"{slope(rows, 'bytes'):.2f}",
                f"{both['1'][-1]['seconds'] / rows[-1]['seconds']:.2f}×",
            ]
        )
    heads = ["size", "step", "exponent", "peak memory", "exponent", "1 thread / 2"]
    write_table("scaling-table", heads, lines)
    with style():
        fig = figure(9.5, 5.6)
        axes = fig.subplots(2, 3).ravel()
        for axis, (name, both) in zip(axes, result["sweeps"].items(), strict=False):
            for n, (threads, rows) in enumerate(both.items()):
                x, y = [r["value"] for r in rows], [1e3 * r["seconds"] for r in rows]
                plural = "s" if threads != "1" else ""
                look = {"color": COLORS[n], "marker": MARKERS[n]}
                axis.loglog(x, y, label=f"{threads} thread{plural}, ms", **look)
            memory = [r["bytes"] / 2**20 for r in both["2"]]
            axis.loglog(x, memory, ":", color="#777777", marker=".", label="peak memory, MiB")
            axis.set_xlabel(LABELS[name])
            axis.set_xticks(x, map(str, x), fontsize=7)
            axis.minorticks_off()
        axes[0].set_ylabel("a training step")
        axes[3].set_ylabel("a training step")
        axes[0].legend()
        last = axes[-1]
        for n, (name, rows) in enumerate(result["crossover"].items()):
            x, y = [r["bits"] for r in rows], [1e3 * r["seconds"] for r in rows]
            last.semilogy(x, y, color=COLORS[n], marker=MARKERS[n], label=name)
        last.set_xlabel("$\\log_2$ of the dimension, one layer")
        last.set_ylabel("ms a step")
        last.legend()
        save_figure(fig, DOCS / "images" / "scaling.png")


def main() -> None:
    """Measure, report, or print how steps grow with sites."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("measure", "report", "sites"))
    arguments = parser.parse_args()
    keep_freed_memory()
    {"measure": measure, "report": report, "sites": sites}[arguments.what]()


if __name__ == "__main__":
    main()
