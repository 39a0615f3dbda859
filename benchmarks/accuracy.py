"""The error of a truncation, computed without cancellation; the SRC paper's figures.

``sqrt(|T|^2 - |C|^2)`` loses half of the digits. Here the chains T and C are stacked into one
with the direct sum of their bonds, and swept by QR: what is left at the end are the coordinates
of both vectors in one orthonormal basis, whose difference is exact to the rounding of T.
"""

from collections.abc import Iterable
from statistics import median

import numpy as np
import quimb
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

import ftnn
from ftnn.arrays.backend import to_numpy
from ftnn.truncation import METHODS

from .workloads import QUIMB_QR, Problem, quimb_cores, quimb_src, synthetic

REFERENCE_BOND = 200
"""Bond of the stand-in for the exact product of the synthetic problem, whose own bond is 2500.

`src` at this bond is as near to the product as float64 allows; two of them, from different test
matrices, show how near."""

PAPER = {20: 8.7e-8, 50: 4.8e-11, 100: 2e-13}
"""Errors of SRC on the synthetic problem in arXiv:2504.06475, by bond."""

OPTIMAL = ("src-oversample", "fit", "direct")
"""Methods that are to be within 1.5 times the optimum."""

HEAVY = ("dm", "direct")
"""Methods that take the exact bond to a higher power."""


def relative_distance(
    cores: Iterable[np.ndarray], reference: Iterable[np.ndarray], sample: int = 0
) -> float:
    """``|C - T| / |T|`` of one sample of two chains, in double precision.

    Parameters
    ----------
    cores, reference : iterable of array (batch, left, phys, right)
    """
    factors = [np.ones((1, 1)), np.ones((1, 1))]  # (s, bond) of each chain, in one basis
    for pair in zip(cores, reference, strict=True):
        absorbed = []
        for factor, core in zip(factors, pair, strict=True):
            core = core[sample].astype(np.result_type(core, np.float64))  # (left, phys, right)
            size = np.linalg.norm(pair[1][sample])  # the same for both: it divides out
            absorbed.append(np.tensordot(factor, core / size, 1).reshape(-1, core.shape[2]))
        r = np.linalg.qr(np.concatenate(absorbed, axis=1), mode="r")  # (s', bonds of both)
        r = r / np.linalg.norm(r)
        factors = np.split(r, [absorbed[0].shape[1]], axis=1)
    return float(np.linalg.norm(factors[0] - factors[1]) / np.linalg.norm(factors[1]))


def exact_product(problem: Problem, sample: int = 0) -> tuple[np.ndarray, ...]:
    """Cores (1, D * chi, out, D * chi) of the product of one sample."""
    cores = []
    for weight, state in zip(*problem, strict=True):
        core = np.einsum("loir,xiy->lxory", weight, state[sample])
        l, x, o, r, y = core.shape
        cores.append(core.reshape(1, l * x, o, r * y))
    return tuple(cores)


def reference(problem: Problem, seed: int = 1000) -> tuple[tuple[np.ndarray, ...], float]:
    """Stand-in for an exact product whose bond is too large to form, of one sample.

    All methods carry norms in log scale, so that compressed chains of the same norm share an
    error of scale, which a comparison among them cannot see. The stand-in R of T is therefore
    rescaled by <R, T> / <R, R>, contracted without logarithms.

    Returns
    -------
    cores : tuple of array (1, left, phys, right)
    scale_error : float
        Relative error of the scale that was corrected.
    """
    cores = ftnn.compress(problem.lazy(), max_bond=REFERENCE_BOND, seed=seed).cores
    identity = tuple(np.eye(core.shape[2])[None, :, :, None] for core in cores)
    crossed, exponent = _overlap(cores, problem)
    norm, other = _overlap(cores, Problem(identity, cores))
    scale = crossed / norm * 2.0 ** (exponent - other)
    return (cores[0] * scale, *cores[1:]), float(abs(scale - 1.0))


def _overlap(bra: tuple[np.ndarray, ...], ket: Problem) -> tuple[complex, int]:
    """Inner product of the first samples, without the power of two that comes second."""
    env, exponent = np.ones((1, 1, 1)), 0  # (bra bond, state bond, weight bond)
    for core, weight, state in zip(bra, *ket, strict=True):
        env = np.tensordot(env, state[0], (1, 0))  # (bra, weight, in, state')
        env = np.tensordot(env, weight, ((1, 2), (0, 2)))  # (bra, state', out, weight')
        env = np.tensordot(core[0].conj(), env, ((0, 1), (0, 2)))  # (bra', state', weight')
        power = int(np.frexp(np.abs(env).max())[1])
        env, exponent = env * 2.0**-power, exponent + power  # exact
    return env.item(), exponent


def table(console: Console, full: bool, seeds: int, bonds: tuple[int, ...] = tuple(PAPER)) -> dict:
    """Print and return the errors of every method on the synthetic problem.

    Parameters
    ----------
    console : Console
    full : bool
        With the heavy methods.
    seeds : int
        Number of draws of test matrices, of which the median error is taken.
    bonds : tuple of int
    """
    problem = synthetic()
    network = problem.quimb(0)
    light, heavy = problem.lazy(), problem.at("torch-cpu").lazy()  # NumPy inverts more slowly

    def ours(method: str, bond: int, seed: int) -> float:
        lazy = heavy if method in HEAVY else light
        found = ftnn.compress(lazy, max_bond=bond, method=method, seed=seed)
        return relative_distance(tuple(map(to_numpy, found.cores)), exact)

    def theirs(bond: int, seed: int) -> float:
        quimb.seed_rand(seed)
        found = quimb_src(network, bond, QUIMB_QR)
        return relative_distance(quimb_cores(found), exact)

    runs = {m: seeds if METHODS[m].seeded else 1 for m in METHODS if full or m not in HEAVY}
    runs["quimb src (QR)"] = seeds
    rows = []
    with progress_on(console) as progress:
        task = progress.add_task("reference", total=2 + len(bonds) * sum(runs.values()))
        exact, scale_error = reference(problem)
        progress.advance(task)
        doubt = relative_distance(reference(problem, 2000)[0], exact)
        progress.advance(task)
        for bond in bonds:
            optimum = relative_distance(_rounded(exact, bond), exact)
            for method, number in runs.items():
                errors = []
                for seed in range(number):
                    progress.update(task, description=f"{method} at {bond}")
                    known = method in METHODS
                    errors.append(ours(method, bond, seed) if known else theirs(bond, seed))
                    progress.advance(task)
                rows.append(_row(method, bond, median(errors), optimum))
    console.print(_shown(rows))
    console.print(
        f"The exact product is stood in for by src at {REFERENCE_BOND}; another one, from other "
        f"test matrices, is {doubt:.1e} away. Its scale was off by {scale_error:.1e}, which is "
        "corrected here, and is part of the errors above. The optimum is its rounding by SVD. "
        f"Methods that draw test matrices: the median of {seeds} draws."
    )
    if min(row["optimum"] for row in rows) < 10 * (doubt + scale_error):
        console.print("Where the optimum is that small, ratios to it compare rounding errors.")
    if not full:
        console.print(f"Not run: our {', '.join(HEAVY)} (minutes and gigabytes; --full)")
    return {
        "reference_distance": doubt,
        "reference_scale_error": scale_error,
        "seeds": seeds,
        "rows": rows,
    }


def _rounded(exact: tuple[np.ndarray, ...], bond: int) -> tuple[np.ndarray, ...]:
    return ftnn.compress(ftnn.MPS(exact), max_bond=bond, method="direct").cores


def progress_on(console: Console) -> Progress:
    """Progress that leaves no trace, and none at all where it would only fill a log."""
    return Progress(console=console, transient=True, disable=not console.is_terminal)


def _shown(rows: list[dict]) -> Table:
    shown = Table(
        title="Relative error on the SRC paper's synthetic problem, L=100, D=χ=50",
        title_justify="left",
    )
    for name in ("method", "χ̄", "error", "optimum", "× optimum", "paper", "bar", ""):
        shown.add_column(name, justify="left" if name in ("method", "") else "right")
    for row in rows:
        shown.add_row(
            row["method"],
            str(row["bond"]),
            f"{row['error']:.1e}",
            f"{row['optimum']:.1e}",
            f"{row['error'] / row['optimum']:.2f}",
            f"{row['paper']:.1e}" if row["paper"] else "",
            f"≤ {row['bar']:.1e}" if row["bar"] else "",
            {None: "", True: "bar met", False: "missed"}[row["met"]],
        )
    return shown


def _row(method: str, bond: int, error: float, optimum: float) -> dict:
    paper = PAPER.get(bond) if method == "src" else None
    bar = 2 * paper if paper else 1.5 * optimum if method in OPTIMAL else None
    return {
        "method": method,
        "bond": bond,
        "error": error,
        "optimum": optimum,
        "paper": paper,
        "bar": bar,
        "met": None if bar is None else error <= bar,
    }
