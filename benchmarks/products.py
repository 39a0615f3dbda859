"""The elementwise product of two states: what its truncation costs, and how accurate it is.

`python benchmarks/products.py measure` compares the truncation of the product of two states of bond
m to bond m by a sketch and by interpolation, in turns on one thread: time and memory, forward and
with gradient, and errors. It keeps the result in runs/products; `... report` writes
docs/products-cost-table.md and docs/products-accuracy-table.md. Times are those of the processor,
since one thread does all the work: other processes hardly count.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[1]))

import ftnn
from benchmarks.pages import RUNS, write_table
from ftnn.arrays.backend import convert
from ftnn.arrays.sketches import test_matrices
from ftnn.chains.bonds import output_bonds
from ftnn.chains.terms import Cores, Hadamard, State, Term
from ftnn.measure.memory import keep_freed_memory, peak_bytes
from ftnn.measure.timing import compare
from ftnn.nonlinear.hadamard import interpolate_product
from ftnn.training.files import write_json
from ftnn.truncation.src import compress_src

HOME = RUNS / "products"
BONDS = (4, 8, 16, 32, 64)
DIMS = (2, 4)
CASES = [(2, 1, BONDS), (4, 1, BONDS), (2, 16, BONDS[:-1])]
"""Physical dimension, batch and bonds of what is timed."""
SITES = 12
SEEDS = (0, 1, 2)
PRODUCTS = ("sketch", "cross")
DECAY = 0.7


def truncate(
    gate: Cores, value: Cores, omegas: Cores, bond: int, product: str, offset: bool = False
) -> Cores:
    """Truncate ``gate * value``, or ``(1 + gate) * value``, as :class:`ftnn.nonlinear.Gated`."""
    first, second = State(gate), State(value)
    terms = (Term(Hadamard(first, second)), *((Term(second),) if offset else ()))
    if product == "cross":
        bonds = output_bonds(terms, bond)
        terms = (Term(State(interpolate_product(gate, value, omegas, bonds, offset))),)
    return compress_src(terms, omegas, bond)


def state(phys: int, bond: int, seed: int, decay: float = DECAY, batch: int = 1) -> Cores:
    """Gaussian cores (batch, left, phys, right) whose bond directions decay by a factor each.

    The singular values at a cut decay with them, and so do those of a product.
    """
    rng = np.random.default_rng((seed, phys, bond))
    edges = [1, *[bond] * (SITES - 1), 1]
    return tuple(
        rng.standard_normal((batch, left, phys, right)) / phys**0.5 * decay ** np.arange(right)
        for left, right in itertools.pairwise(edges)
    )


def problem(phys: int, bond: int, place: str, seed: int, batch: int) -> tuple[Cores, Cores, Cores]:
    """Two states in float32, and test matrices, at a place such as "torch-cpu"."""
    backend, device = place.split("-")
    omegas = test_matrices((phys,) * SITES, bond, seed)
    states = (state(phys, bond, 2 * seed + n, batch=batch) for n in range(2))
    chains = (*states, omegas)
    gate, value, omegas = (
        tuple(convert(array, backend, "float32", device) for array in chain) for chain in chains
    )
    return gate, value, omegas


def forward(
    phys: int, bond: int, product: str, place: str = "torch-cpu", seed: int = 0, batch: int = 1
) -> Callable[[], object]:
    """Truncate the product of two states of bond m to m."""
    gate, value, omegas = problem(phys, bond, place, seed, batch)
    return lambda: truncate(gate, value, omegas, bond, product)


def forward_backward(
    phys: int, bond: int, product: str, place: str = "torch-cpu", seed: int = 0, batch: int = 1
) -> Callable[[], object]:
    """Truncate as :func:`forward` on torch, with a gradient for all cores of both."""
    gate, value, omegas = problem(phys, bond, place, seed, batch)
    leaves = [core.requires_grad_() for core in (*gate, *value)]
    with torch.no_grad():
        found = truncate(gate, value, omegas, bond, product)
    upstream = [torch.linspace(-1, 1, core.numel()).reshape(core.shape) for core in found]
    upstream = [array.to(core) for array, core in zip(upstream, found, strict=True)]
    return lambda: torch.autograd.grad(
        truncate(gate, value, omegas, bond, product), leaves, upstream
    )


RUNNERS = {"forward": forward, "with gradient": forward_backward}


# ---- cost ----------------------------------------------------------------------------------------


class CpuTimer:
    """Processor time of a call of one thread, repeated for a tenth of a second."""

    def __init__(self, call: Callable[[], object]):
        self.call, self.number = call, 1
        once = min(self.seconds() for _ in range(2))
        self.number = max(1, round(0.1 / max(once, 1e-4)))

    def seconds(self) -> float:
        """Time the calls of a round, divided by their number."""
        begin = time.process_time()
        for _ in range(self.number):
            self.call()
        return (time.process_time() - begin) / self.number


def cost(phys: int, batch: int, bond: int, run: str) -> dict:
    """Median seconds over the seeds, operations of matrix products and peak bytes, by product."""

    def prepared(product: str, seed: int = 0) -> Callable[[], object]:
        return RUNNERS[run](phys, bond, product, seed=seed, batch=batch)

    seconds: dict[str, list[float]] = {product: [] for product in PRODUCTS}
    for seed in SEEDS:
        timers = {p: CpuTimer(prepared(p, seed)) for p in PRODUCTS}
        for product, found in compare(timers, rounds=3).items():
            seconds[product].append(found)
    return {
        "phys": phys,
        "batch": batch,
        "bond": bond,
        "run": run,
        "seconds": {product: statistics.median(found) for product, found in seconds.items()},
        "flops": products_of(phys, batch, bond, run),
        "bytes": {product: peak_bytes(prepared(product)) for product in PRODUCTS},
    }


def products_of(phys: int, batch: int, bond: int, run: str) -> dict[str, int]:
    """Floating point operations of the matrix products of a run, by product."""
    counts = {}
    for product in PRODUCTS:
        prepared = RUNNERS[run](phys, bond, product, batch=batch)
        with FlopCounterMode(display=False) as counter:
            prepared()
        counts[product] = counter.get_total_flops()
    return counts


def exponent(sizes: list[int], values: list[float]) -> float:
    """Exponent of growth, fitted to the last three."""
    return float(np.polyfit(np.log(sizes[-3:]), np.log(values[-3:]), 1)[0])


# ---- accuracy ------------------------------------------------------------------------------------


def functions(seed: int) -> dict[str, tuple[np.ndarray, np.ndarray, bool]]:
    """Pairs of vectors (1, 2^12) to multiply, and whether one is added to the first."""
    rng = np.random.default_rng(seed)
    grid = np.arange(2**SITES) / 2**SITES

    def waves(modes: int) -> np.ndarray:
        size, phase = rng.standard_normal((2, modes, 1))
        number = np.arange(1, modes + 1)[:, None]
        return (size / number * np.sin(2 * np.pi * (number * grid + phase))).sum(0)[None]

    def random(decay: float) -> np.ndarray:
        chain = state(2, 16, int(rng.integers(2**31)), decay)
        return ftnn.MPS(chain).to_dense()

    center = rng.uniform()
    return {
        "sums of 4 waves": (waves(4), waves(4), False),
        "sums of 12 waves": (waves(12), waves(12), False),
        "a wave and a peak of width 1/2000": (
            waves(4),
            np.exp(-((2000 * (grid - center)) ** 2))[None],
            False,
        ),
        "(1 + gate) of 10^-4": (-1 + 1e-4 * waves(4), waves(4), True),
        "random, decay 0.5": (random(0.5), random(0.5), False),
        "random, decay 0.7": (random(0.7), random(0.7), False),
        "random, no decay": (random(1.0), random(1.0), False),
    }


def accuracy(seed: int, bond: int) -> list[dict]:
    """Relative errors in float64, of the optimum (TT-SVD) and by product."""
    dims, rows = (2,) * SITES, []
    omegas = test_matrices(dims, bond, seed)
    for name, (gate, value, offset) in functions(seed).items():
        exact = (offset + gate) * value

        def error(cores: Cores, exact: np.ndarray = exact) -> float:
            distance = ftnn.MPS(cores).to_dense() - exact
            return float(np.linalg.norm(distance) / np.linalg.norm(exact))

        gate_cores, value_cores = (
            ftnn.MPS.from_dense(v, dims, rtol=1e-13).cores for v in (gate, value)
        )
        row = {"optimum": error(ftnn.MPS.from_dense(exact, dims, bond).cores)}
        for product in PRODUCTS:
            found = truncate(gate_cores, value_cores, omegas, bond, product, offset)
            row[product] = error(found)
        rows.append({"name": name, "bond": bond, "seed": seed} | row)
    return rows


# ---- what is kept and written --------------------------------------------------------------------


def measure() -> None:
    """Measure what is not there yet, and keep it."""
    HOME.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    file = HOME / "accuracy.json"
    if not file.is_file():
        errors = [accuracy(seed, bond) for seed in SEEDS for bond in BONDS[:4]]
        write_json(file, list(itertools.chain(*errors)))
    file = HOME / "cost.json"
    rows = json.loads(file.read_text()) if file.is_file() else []
    done = {(row["phys"], row["batch"], row["bond"], row["run"]) for row in rows}
    for phys, batch, bonds in CASES:
        for bond, run in itertools.product(bonds, RUNNERS):
            case = phys, batch, bond, run
            if case in done:
                continue
            rows.append(cost(*case))
            print(rows[-1], flush=True)
            write_json(file, rows)


def report() -> None:
    """Write both tables."""
    rows = json.loads((HOME / "cost.json").read_text())
    lines = []
    for (phys, batch, bonds), run in itertools.product(CASES, RUNNERS):
        own = [row for row in rows if (row["phys"], row["batch"], row["run"]) == (phys, batch, run)]
        own.sort(key=lambda row: row["bond"])
        for key, unit, what in (
            ("seconds", 1e3, "ms"),
            ("flops", 1e-6, "MFLOP"),
            ("bytes", 2**-20, "MiB"),
        ):
            for product in PRODUCTS:
                values = [row[key][product] * unit for row in own]
                cells = [f"{value:.3g}" for value in values] + [""] * (len(BONDS) - len(bonds))
                growth = f"{exponent(list(bonds), values):.1f}"
                lines.append([f"{phys}, {batch}", f"{run}, {what}", product, *cells, growth])
    heads = ["phys, batch", "", "product", *(f"m = {bond}" for bond in BONDS), "exponent"]
    write_table("products-cost-table", heads, lines)

    rows = json.loads((HOME / "accuracy.json").read_text())
    lines = []
    for name, method in itertools.product(
        dict.fromkeys(row["name"] for row in rows), ("optimum", *PRODUCTS)
    ):
        cells = []
        for bond in sorted({row["bond"] for row in rows}):
            found = [r[method] for r in rows if (r["name"], r["bond"]) == (name, bond)]
            cells.append(f"{statistics.median(found):.1e} ({max(found):.1e})")
        lines.append([name if method == "optimum" else "", method, *cells])
    heads = ["product of", "by", *(f"m = {bond}" for bond in sorted({r["bond"] for r in rows}))]
    write_table("products-accuracy-table", heads, lines)


def main() -> None:
    """Measure or report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("measure", "report"))
    arguments = parser.parse_args()
    keep_freed_memory()
    {"measure": measure, "report": report}[arguments.what]()


if __name__ == "__main__":
    main()
