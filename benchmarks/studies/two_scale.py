"""The tables and the pictures of docs/two-scale.md.

`python benchmarks/studies/two_scale.py` trains networks of every depth on 2^6 points with three
seeds (complete runs in runs/two-scale are kept), and measures them, carried over, on 2^20 and 2^30
points, each test set read once a model (results are kept in runs/two-scale/errors.json). It
measures the methods to compare with on the same test functions, and writes docs/two-scale-*.md and
pictures to docs/images. `--fno EPOCHS` trains Fourier neural operators as well, and `--whole` a
model by all stages of the command; their results are kept, too.
"""

import argparse
import json
import sys
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))

import ftnn
from benchmarks.pages import DOCS, RUNS, copy_picture, spread, write_readme, write_table
from benchmarks.studies.fno import FNOOptions, TrainedFNO, relative_errors
from benchmarks.studies.linear import distances, linear_map
from benchmarks.studies.runs import kept, trained
from ftnn.chains.distance import relative_squares
from ftnn.encoding.functions import on_coarser_grid
from ftnn.experiments import Data, get_experiment, select_rows
from ftnn.experiments.folder import read_summary
from ftnn.experiments.two_scale.data import (
    DRAWS,
    FAST,
    SIZES,
    SLOW,
    Coefficients,
    random_coefficients,
)
from ftnn.experiments.two_scale.model import carry, is_trained
from ftnn.experiments.two_scale.options import COARSE, COARSE_DEPTH
from ftnn.layers.surgery import duplicate
from ftnn.measure.memory import keep_freed_memory
from ftnn.plotting import plot_solutions
from ftnn.plotting.style import COLORS, figure, save_figure, style
from ftnn.training.options import replace_values

SEEDS = (0, 1, 2)
DEPTHS = (1, 2, 3, 4, 5)
HOME = RUNS / "two-scale"
WHOLE = HOME / "whole-0"  # what the command does: a last stage on 2^30 points
GRID = 12  # bits of the grid of cell means
PARTS = ("train", "val", "test")
EXPERIMENT = get_experiment("two-scale")


def options_for(sites: int, depth: int = 5):
    """Tuned options on a grid."""
    return replace_values(EXPERIMENT.tuned_options(), {"sites": sites, "depth": depth})


# ---- the network --------------------------------------------------------------------------------


def trained_run(depth: int, seed: int) -> dict[str, Any]:
    """Train on the coarse grid: up to COARSE_DEPTH layers from noise, more of them from those.

    A layer more squares the residual of a trained product, so there is little left to train.
    """
    changes: dict[str, Any] = {"depth": depth, "sites": COARSE, "fine_epochs": 0}
    if depth > COARSE_DEPTH:
        changes |= {"start": str(folder(COARSE_DEPTH, seed)), "lr": 1e-6, "epochs": 1}
    return trained(folder(depth, seed), "two-scale", seed=seed, **changes)


def test_errors(sites: int, depth: int, seed: int | None) -> list[float]:
    """Return the errors of all test functions, of a trained model or of the Neumann product."""
    data, model = load(sites), neumann_product(sites, depth)
    if seed is not None:
        model = carry(ftnn.load(folder(depth, seed) / "model.safetensors"), model)
    model.to("torch", "float64")
    inputs, targets = (
        tuple(torch.from_numpy(core) for core in cores)
        for cores in (data.test_inputs, data.test_targets)
    )
    with torch.no_grad():
        squares = relative_squares(model.apply(inputs), targets)
    return squares.clamp(min=0).sqrt().tolist()


@cache
def _neumann_product(sites: int, depth: int) -> ftnn.Layer:
    options = replace_values(options_for(sites, depth), {"noise": 0.0})
    return EXPERIMENT.build(options, load(sites))[1]


def neumann_product(sites: int, depth: int) -> ftnn.Layer:
    """Return a copy of the exact construction."""
    return duplicate(_neumann_product(sites, depth))


@cache
def load(sites: int) -> Data:
    """Load the data on a grid, once."""
    return EXPERIMENT.load(options_for(sites))


def folder(depth: int, seed: int) -> Path:
    """Return the run folder of a model."""
    return HOME / f"{COARSE}-{depth}-{seed}"


def errors_of(sites: int, depth: int, seed: int | None) -> np.ndarray:
    """Return the errors of :func:`test_errors`, measured once."""
    name = f"{sites} sites, depth {depth}, " + ("Neumann" if seed is None else f"seed {seed}")
    return np.array(kept(HOME / "errors.json", name, lambda: test_errors(sites, depth, seed)))


def inverse_errors(coefficients: Coefficients) -> list[float]:
    """Return mean relative errors of the Neumann product as 1/a, on a grid of x and y."""
    x, y = (np.arange(256) + 0.5) / 256, (np.arange(128) + 0.5) / 128
    slow, fast = 1 + SLOW * coefficients.slow(x), FAST * coefficients.fast(y)
    a = slow[:, :, None] + fast[:, None, :]
    product, power, errors = np.ones_like(a), 1 - a, []
    for _ in range(6):
        gap = np.linalg.norm(product - 1 / a, axis=(1, 2)) / np.linalg.norm(1 / a, axis=(1, 2))
        errors.append(float(gap.mean()))
        product, power = product * (1 + power), power**2
    return errors


# ---- methods to compare with, on cell means -----------------------------------------------------


def cell_means(cores: tuple[np.ndarray, ...]) -> np.ndarray:
    """Return the means (n, 2^GRID) of functions over the cells of the coarser grid."""
    rest = np.ones((len(cores[0]), 1, 1))
    for core in reversed(cores[GRID:]):
        rest = core.mean(axis=2) @ rest
    head = [*cores[:GRID]]
    head[-1] = np.einsum("blpr,brm->blpm", head[-1], rest)
    return ftnn.MPS(tuple(head)).to_dense()


def integrated(f: np.ndarray) -> np.ndarray:
    """Return the integrals of (1 - x) f up to the midpoints of the cells."""
    points = f.shape[1]
    g = (1 - (np.arange(points) + 0.5) / points) * f / points
    return np.cumsum(g, axis=1) - 0.5 * g


def homogenized(coefficients: Coefficients) -> np.ndarray:
    """Return the solutions of the homogenized equation, in closed form in one dimension.

    The effective coefficient is the harmonic mean of a(x, y) over a period.
    """
    x, y = (np.arange(2**GRID) + 0.5) / 2**GRID, (np.arange(256) + 0.5) / 256
    slow, fast = 1 + SLOW * coefficients.slow(x), FAST * coefficients.fast(y)
    inverse = [(1 / (s[:, None] + f)).mean(axis=1) for s, f in zip(slow, fast, strict=True)]
    return integrated(np.array(inverse))


def resolved_pairs(coefficients: Coefficients, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Return cell means of a and u with ε = 2^-bits, by sums over 16 points of every cell."""
    points = 2 ** (GRID + 4)
    x = (np.arange(points) + 0.5) / points
    parts = []
    for n in range(len(coefficients.scale)):
        a = coefficients[n : n + 1](x, x * 2.0**bits)
        both = [f.reshape(2**GRID, 16).mean(axis=1) for f in (a, integrated(1 / a))]
        parts.append(both)
    inputs, targets = np.moveaxis(np.array(parts), 1, 0)
    return inputs, targets


def by_scale(errors: np.ndarray, bits: np.ndarray) -> list[str]:
    """Format mean errors of all, and of the largest and smallest ε."""
    parts = [errors[bits == bits.min()], errors[bits == bits.max()]]
    return [f"{part.mean():.2e}" for part in parts]


def fno_result(
    train: tuple[torch.Tensor, ...], tests: dict[str, tuple[torch.Tensor, ...]], **changes: Any
) -> dict[str, Any]:
    """Train an FNO; return its mean errors on sets of tests, and what it took."""
    model = TrainedFNO(*train, FNOOptions(**changes))
    errors = {
        name: float(relative_errors(model(inputs), targets).mean())
        for name, (inputs, targets) in tests.items()
    }
    return {
        "errors": errors,
        "epochs": changes["epochs"],
        "seconds": model.seconds,
        "parameters": model.num_params,
        "source": model.source,
    }


def fno_rows(
    means: dict[str, np.ndarray], bits: np.ndarray, epochs: int, seeds: list[int]
) -> list[list[str]]:
    """Make rows of FNOs: trained on the cell means of the same functions, and at ε = 2^-6.

    Results are kept in runs/two-scale/fno.json; without epochs, nothing is trained.
    """
    path = HOME / "fno.json"
    done = json.loads(path.read_text()) if path.is_file() else {}
    if not epochs and not done:
        return []
    drawn = zip(SIZES, DRAWS, strict=True)
    coarse = [resolved_pairs(random_coefficients(size, n), 6) for size, n in drawn]

    def in_channels(*parts: np.ndarray) -> tuple[torch.Tensor, ...]:
        return tuple(torch.from_numpy(part)[:, None] for part in parts)

    inputs, targets = means["test_inputs"], means["test_targets"]
    rows_of = {"all": slice(None), "largest": bits == bits.min(), "smallest": bits == bits.max()}
    tests = {name: in_channels(inputs[rows], targets[rows]) for name, rows in rows_of.items()}
    tests["2^-6"] = in_channels(*coarse[2])
    pairs = {
        "FNO, trained on cell means": in_channels(means["train_inputs"], means["train_targets"]),
        "FNO, trained at ε = 2^-6": in_channels(*coarse[0]),
    }
    lines = []
    for name, train in pairs.items():
        found = []
        for seed in seeds:
            key = f"{name}, seed {seed}"
            if epochs or key in done:
                measure = partial(fno_result, train, tests, seed=seed, epochs=epochs)
                found.append(kept(path, key, measure))
        if not found:
            continue
        errors = {key: [one["errors"][key] for one in found] for key in tests}
        columns = [f"{np.mean(errors[key]):.2e}" for key in ("largest", "smallest")]
        size, time = f"{found[0]['parameters']:,}", np.mean([one["seconds"] for one in found])
        title = f"{name}, {found[0]['epochs']} epochs"
        lines.append([title, spread(errors["all"], ".2e"), *columns, size, f"{time:.0f} s"])
        if "2^-6" in name:
            own = spread(errors["2^-6"], ".2e")
            lines.append(["the same, tested at ε = 2^-6", own, "", "", "", ""])
    return lines


# ---- pages --------------------------------------------------------------------------------------


def draw_depths(neumann: list[float], learned: list[list[float]]) -> None:
    """Draw errors against the number of gated layers."""
    with style():
        fig = figure(4.6, 3.2)
        axis = fig.subplots()
        axis.semilogy(range(len(neumann)), neumann, "o-", color="#AAAAAA", label="Neumann product")
        for n in range(len(SEEDS)):
            values = [runs[n] for runs in learned]
            label = "trained, three seeds" if n == 0 else None
            axis.semilogy(DEPTHS, values, "o-", color=COLORS[0], alpha=0.7, label=label)
        axis.set(xlabel="gated layers", ylabel="relative error, $2^{30}$ points")
        axis.legend()
        save_figure(fig, DOCS / "images" / "two-scale-depths.png")


def main() -> None:
    """Train what is missing, write tables and pictures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--fno", type=int, default=0, help="epochs of Fourier neural operators")
    parser.add_argument("--fno-seeds", nargs="+", type=int, default=list(SEEDS), choices=SEEDS)
    parser.add_argument("--whole", action="store_true", help="train as the command does, as well")
    given = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(1)
    if given.whole:
        trained(WHOLE, "two-scale")
    runs = {(depth, seed): trained_run(depth, seed) for seed in SEEDS for depth in DEPTHS}
    draw = random_coefficients(SIZES[2], DRAWS[2])
    inverse = inverse_errors(draw)
    unit = relative_of_constant(draw)
    neumann = [unit, *(float(errors_of(30, depth, None).mean()) for depth in DEPTHS)]
    learned, lines = [], [["0", f"{inverse[0]:.2e}", f"{unit:.2e}", "", "", "", ""]]
    for depth in DEPTHS:
        errors = [errors_of(30, depth, seed) for seed in SEEDS]
        learned.append([float(few.mean()) for few in errors])
        before = np.mean(learned[-2]) if len(learned) > 1 else unit
        lines.append(
            [
                str(depth),
                f"{inverse[depth]:.2e}",
                f"{neumann[depth]:.2e}",
                spread(learned[-1], ".2e"),
                f"{before / np.mean(learned[-1]):.1f}",
                f"{max(few.max() for few in errors):.1e}",
                f"{trained_params(depth)} of {runs[depth, 0]['num_params']:,}",
            ]
        )
    heads = ["layers", "Neumann product as 1/a", "its u", "trained, u", "times smaller"]
    write_table("two-scale-table", [*heads, "largest", "trained parameters"], lines)
    draw_depths(neumann, learned)
    coarse = [runs[5, seed]["test_error"] for seed in SEEDS]
    middle = [float(errors_of(20, 5, seed).mean()) for seed in SEEDS]
    rows = [
        [f"2^{COARSE}", spread(coarse, ".2e")],
        ["2^20, carried over", spread(middle, ".2e")],
        ["2^30, carried over", spread(learned[-1], ".2e")],
        ["2^20, Neumann product", f"{errors_of(20, 5, None).mean():.2e}"],
        ["2^30, Neumann product", f"{neumann[5]:.2e}"],
    ]
    whole = read_summary(WHOLE)
    if "experiment" in whole:
        minutes = (whole["train_seconds"] + whole["earlier_seconds"]) / 60
        name = f"2^30, `ftnn train two-scale`, {minutes:.0f} min of training"
        rows.insert(3, [name, spread([whole["test_error"]], ".2e")])
    write_table("two-scale-grids", ["points", "relative error, five layers"], rows)
    data, bits = load(30), draw.bits(30)
    names = [f"{part}_{what}" for part in PARTS for what in ("inputs", "targets")]
    means = {name: cell_means(getattr(data, name)) for name in names}
    truth = means["test_targets"]
    train, val = ((means[f"{p}_inputs"], means[f"{p}_targets"]) for p in ("train", "val"))
    linear, penalty = linear_map(train, val, means["test_inputs"])
    print(f"penalty of the linear map: {penalty:g}")
    own = np.mean([errors_of(30, 5, seed) for seed in SEEDS], axis=0)
    parts = [[runs[n, seed]["train_seconds"] for n in (COARSE_DEPTH, 5)] for seed in SEEDS]
    seconds = f"{np.median(np.sum(parts, axis=1)):.0f} s"
    size = f"{trained_params(5)}"
    table = [["five gated layers", spread(learned[-1], ".2e"), *by_scale(own, bits), size, seconds]]
    for name, found in (("homogenization", homogenized(draw)), ("best linear map", linear)):
        errors = distances(found, truth)
        table.append([name, f"{errors.mean():.2e}", *by_scale(errors, bits), "", ""])
    table += fno_rows(means, bits, given.fno, given.fno_seeds)
    heads = ["method", "relative error", f"ε = 2^-{bits.min()}", f"ε = 2^-{bits.max()}"]
    write_table("two-scale-methods", [*heads, "trained parameters", "training"], table)
    draw_solutions(data)
    copy_picture(folder(5, 0) / "network.png", "two-scale-network.png")
    write_readme(
        "two-scale",
        f"Relative error on unseen functions of $2^{{30}}$ points: {spread(learned[-1], '.2e')}, "
        f"{trained_params(5)} trained parameters, {seconds} on one core.",
    )


def trained_params(depth: int) -> int:
    """Count the parameters that are trained."""
    model = ftnn.load(folder(depth, 0) / "model.safetensors")
    return sum(2 for name in model.named_params() if is_trained(name))  # a diagonal each


def relative_of_constant(coefficients: Coefficients) -> float:
    """Return the mean error of 1 in place of 1/a, on the homogenized solutions."""
    exact = homogenized(coefficients)
    return float(distances(integrated(np.ones_like(exact)), exact).mean())


def draw_solutions(data: Data) -> None:
    """Draw three test functions of the finest grid, with the network of seed 0."""
    model = carry(ftnn.load(folder(5, 0) / "model.safetensors"), neumann_product(30, 5))
    few = [select_rows(part, slice(3)) for part in (data.test_inputs, data.test_targets)]
    functions = [on_coarser_grid(cores, 10) for cores in (*few, model.apply(few[0]))]
    path = DOCS / "images" / "two-scale.png"
    labels = ("coefficient, $a$", "solution, $u$")
    plot_solutions(*functions, errors_of(30, 5, 0)[:3], "$2^{30}$ points", path, labels=labels)


if __name__ == "__main__":
    main()
