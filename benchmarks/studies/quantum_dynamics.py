"""The tables and the pictures of docs/quantum-dynamics.md.

`python benchmarks/studies/quantum_dynamics.py` trains every row with three seeds (complete runs in
runs/quantum-dynamics are kept), each test set read once a run; `... report` writes what there is
to docs/quantum-dynamics-table.md, docs/quantum-dynamics-known-table.md and pictures to
docs/images; `... repeat` applies trained networks again and again; `... converged` measures how
far the states depend on the step and the cutoff of TEBD.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))

import ftnn
from benchmarks.pages import DOCS, RUNS, copy_picture, spread, write_readme, write_table
from benchmarks.studies.runs import trained
from ftnn.chains.distance import infidelities
from ftnn.experiments import get_experiment
from ftnn.experiments.folder import read_summary
from ftnn.experiments.quantum_dynamics.conclusion import (
    outputs,
    to_quimb,
    trotter_infidelity,
    widened,
)
from ftnn.experiments.quantum_dynamics.hamiltonians import hamiltonian, terms
from ftnn.experiments.quantum_dynamics.states import arrays_of, evolved, initial_state
from ftnn.measure.memory import keep_freed_memory
from ftnn.plotting.style import COLORS, figure, save_figure, style
from ftnn.training.files import write_json
from ftnn.training.inputs import select_rows
from ftnn.training.options import replace_values

HOME = RUNS / "quantum-dynamics"
SEEDS = (0, 1, 2)
DEPTHS = (1, 2, 4, 8)
BONDS = (8, 12, 16, 32)
"""Bond dimensions of single MPOs."""

ROWS: dict[str, dict[str, Any]] = {f"depth-{depth}": {"depth": depth} for depth in DEPTHS}
ROWS |= {f"bond-{bond}": {"depth": 1, "bond_dim": bond} for bond in BONDS}
ROWS["imaginary"] = {"depth": 4, "hamiltonian": "imaginary", "dtype": "float32"}
ROWS["imaginary-short"] = ROWS["imaginary"] | {"time": 1.0}
STEPS = (4, 8, 16, 32)
"""Steps of Trotter circuits."""

REPEATS, REPEATED_STATES, REPEATED_BOND = 3, 2, 64
REPEATED_CUTOFF, LAST_CUTOFF = 1e-10, 1e-8
"""Of the evolution to compare with; to the last time, where bonds and errors are large, coarser."""

EXPERIMENT = "quantum-dynamics"


def train(names: list[str], seeds: list[int]) -> None:
    """Train what is missing."""
    for seed in seeds:
        for name in names:
            trained(HOME / f"{name}-{seed}", EXPERIMENT, seed=seed, **ROWS[name])


def finished(name: str) -> list[dict[str, Any]]:
    """Return the summaries of the complete runs of a row."""
    summaries = [read_summary(HOME / f"{name}-{seed}") for seed in SEEDS]
    return [summary for summary in summaries if "experiment" in summary]


# ---- what is known of the operator ---------------------------------------------------------------


def operator_spectra(sites: int, time: float) -> list[np.ndarray]:
    """Singular values of the evolution operator at every cut, the sum of whose squares is 1.

    The operator is a vector: it evolves on the outgoing index of a chain of pairs of indices.
    """
    from quimb.tensor import LocalHam1D, MPS_product_state

    pair, single = terms("ising", sites)
    both = np.einsum(
        "acbd,eg,fh->aecfbgdh", pair.reshape(2, 2, 2, 2), np.eye(2), np.eye(2)
    ).reshape(16, 16)
    by = LocalHam1D(sites, H2=both, H1={k: np.kron(one, np.eye(2)) for k, one in enumerate(single)})
    start = MPS_product_state([np.eye(2).reshape(4) / np.sqrt(2) + 0j] * sites)
    state = evolved(start, by, [time], step=0.1, cutoff=1e-12)[0]
    return [np.asarray(state.schmidt_values(k)) for k in range(1, sites)]  # squared


def bounds(spectra: list[np.ndarray], bond: int) -> tuple[float, float]:
    """Eckart and Young: least and, by truncation cut by cut, most squared error of an MPO."""
    tails = [float(np.sort(values)[::-1][bond:].sum()) for values in spectra]
    return max(tails), sum(tails)


def known(options: Any) -> None:
    """Write the table of what needs no training."""
    data = get_experiment(EXPERIMENT).load(options)
    spectra = operator_spectra(options.sites, options.time)
    lines = []
    for bond in (4, *BONDS):
        least, most = bounds(spectra, bond)
        lines.append([f"one MPO, D = {bond}", f"{least:.1e} to {min(most, 1.0):.1e}"])
    for steps in STEPS:
        value = trotter_infidelity(options, data, steps)
        lines.append([f"Trotter, second order, {steps} steps", f"{value:.2e}"])
    value = float(infidelities(data.test_inputs, data.test_targets).mean())
    lines.append(["input unchanged", f"{value:.2f}"])
    write_table("quantum-dynamics-known-table", ["known operator", "error"], lines)
    write_json(HOME / "bounds.json", {str(bond): bounds(spectra, bond) for bond in (4, *BONDS)})


# ---- trained networks ----------------------------------------------------------------------------


def report() -> None:
    """Write the table of trained networks, the line of the README, and the pictures."""
    heads = ["network", "parameters", "product states", "random states, χ = 4"]
    heads += ["evolved by another Hamiltonian", "training"]
    lines = []
    for name, changes in ROWS.items():
        runs = finished(name)
        if not runs:
            continue
        depth, bond = changes["depth"], changes.get("bond_dim", 4)
        kind = f"{depth} layers of D = {bond}" if depth > 1 else f"one MPO, D = {bond}"
        if "hamiltonian" in changes:
            kind += f", {changes['hamiltonian']} Hamiltonian"
        if "time" in changes:
            kind += f", t = {changes['time']:g}"
        minutes = [(run["train_seconds"] + run.get("earlier_seconds", 0.0)) / 60 for run in runs]
        lines.append(
            [
                kind,
                f"{runs[0]['num_params']:,}",
                *(
                    spread([run["infidelity"][part] for run in runs], ".2e")
                    for part in ("product", "random", "evolved")
                ),
                f"{np.mean(minutes):.0f} min",
            ]
        )
    write_table("quantum-dynamics-table", heads, lines)
    best = finished("depth-4")
    if best:
        write_readme(EXPERIMENT, readme_line(best))
        copy_picture(HOME / "depth-4-0" / "dynamics.png", "quantum-dynamics.png")
        copy_picture(HOME / "depth-4-0" / "network.png", "quantum-dynamics-network.png")
    draw()


def readme_line(runs: list[dict[str, Any]]) -> str:
    """Tell the results in one sentence."""
    product, other = (
        spread([run["infidelity"][kind] for run in runs], ".2e") for kind in ("product", "evolved")
    )
    return (
        f"Mean infidelity at t = 2 on 40 spins, four layers of D = 4: unseen product states "
        f"{product}; entangled states that another Hamiltonian prepared {other}."
    )


def draw() -> None:
    """Draw infidelity against parameters, of stacks and of single MPOs."""
    with style():
        fig = figure(4.8, 3.2)
        axis = fig.subplots()
        groups = (
            ("layers of D = 4", [f"depth-{depth}" for depth in DEPTHS]),
            ("one MPO", ["depth-1", *(f"bond-{bond}" for bond in BONDS)]),
        )
        for n, (label, names) in enumerate(groups):
            rows = [(name, finished(name)) for name in names]
            rows = [(name, runs) for name, runs in rows if runs]
            x = [runs[0]["num_params"] for _, runs in rows]
            for part, marker, line in (("product", "o", "-"), ("evolved", "s", ":")):
                y = [np.mean([run["infidelity"][part] for run in runs]) for _, runs in rows]
                kind = "product states" if part == "product" else "entangled states"
                axis.plot(
                    x, y, line, marker=marker, ms=4, color=COLORS[n], label=f"{label}, {kind}"
                )
        axis.set(xscale="log", yscale="log", xlabel="parameters (complex)", ylabel="infidelity")
        ticks = [2500 << n for n in range(5)]
        axis.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
        axis.tick_params(axis="x", which="minor", labelbottom=False)
        axis.set_title("Evolution of 40 spins for t = 2")
        axis.legend(fontsize=7, loc="lower left")
        save_figure(fig, DOCS / "images" / "quantum-dynamics-depth.png")


def repeat(name: str = "depth-4") -> None:
    """Apply trained networks again and again, and write the table of infidelities."""
    options = get_experiment(EXPERIMENT).tuned_options()
    data = get_experiment(EXPERIMENT).load(options)
    first = select_rows(data.test_inputs, slice(REPEATED_STATES))
    by, times = hamiltonian("ising", options.sites), np.arange(1, REPEATS + 1) * options.time
    exact = [
        [
            arrays_of(state)
            for state in evolved(to_quimb(first, row), by, times, cutoff=REPEATED_CUTOFF)
        ]
        for row in range(REPEATED_STATES)
    ]
    wide = replace_values(options, {"test_bond": REPEATED_BOND})
    lines: list[list[str]] = [[f"{time:g}"] for time in times]
    found: list[list[float]] = [[] for _ in times]
    for seed in SEEDS:
        path = HOME / f"{name}-{seed}" / "model.safetensors"
        if not path.exists():
            continue
        network, cores = widened(ftnn.load(path), wide), first
        for n in range(REPEATS):
            cores = outputs(network, cores)
            values = [
                infidelities(
                    tuple(core[row : row + 1] for core in cores),
                    tuple(array[None].astype(complex) for array in exact[row][n]),
                )[0]
                for row in range(REPEATED_STATES)
            ]
            found[n].append(float(np.mean(values)))
    for line, values in zip(lines, found, strict=True):
        line.append(spread(values, ".2e"))
    write_table("quantum-dynamics-repeat-table", ["time", "infidelity"], lines)


def converged(number: int = 4) -> None:
    """Print infidelities between states of the cache and ones of half the step, less cutoff."""
    options = get_experiment(EXPERIMENT).tuned_options()
    by, rng = hamiltonian("ising", options.sites), np.random.default_rng(1)
    for kind in ("product", "random", "evolved"):
        worst = 0.0
        for _ in range(number):
            state = initial_state(kind, options.sites, rng)
            plain = evolved(state, by, [options.time])[0]
            finer = evolved(state, by, [options.time], step=0.05, cutoff=1e-13)[0]
            cosine = abs(plain.H @ finer) ** 2 / abs((plain.H @ plain) * (finer.H @ finer))
            worst = max(worst, 1.0 - float(cosine))
        print(f"{kind}: infidelity at most {worst:.1e} at t = {options.time:g}")


def main() -> None:
    """Run a part."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("train", "known", "report", "repeat", "converged", "all")
    parser.add_argument("part", nargs="?", default="all", choices=parts)
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), choices=SEEDS)
    given = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    if given.part in ("train", "all"):
        train(given.rows, given.seeds)
    if given.part in ("known", "all"):
        known(get_experiment(EXPERIMENT).tuned_options())
    if given.part in ("repeat", "all"):
        repeat()
    if given.part in ("report", "all"):
        report()
    if given.part == "converged":
        converged()


if __name__ == "__main__":
    main()
