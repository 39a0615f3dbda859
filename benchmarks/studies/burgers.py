"""The tables and the pictures of docs/burgers.md.

`python benchmarks/studies/burgers.py` trains networks on coarse grids (complete runs in
runs/burgers are kept), measures them, carried over, on 2^10, 2^20 and 2^30 points, trains Fourier
neural operators for as many seconds on the same pairs, and writes docs/burgers-*.md and pictures to
docs/images. Every test set is read once a model (results are kept in runs/burgers/results.json).
Parts can be chosen: `... networks --cases published --seeds 0`; Fourier neural operators are those
of `pip install neuraloperator`, where it is installed.
"""

import argparse
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))

import ftnn
from benchmarks.pages import DOCS, RUNS, copy_picture, spread, write_readme, write_table
from benchmarks.studies.fno import FNOOptions, TrainedFNO
from benchmarks.studies.linear import distances, linear_map, quadratic_features
from benchmarks.studies.runs import in_process, kept, trained
from ftnn.chains.distance import relative_squares
from ftnn.experiments import get_experiment, select_rows
from ftnn.experiments.burgers.data import draw
from ftnn.experiments.burgers.model import carry
from ftnn.experiments.burgers.options import BurgersOptions
from ftnn.experiments.burgers.solution import coefficients
from ftnn.experiments.folder import read_summary
from ftnn.experiments.quantics.data import Waves
from ftnn.measure.memory import keep_freed_memory
from ftnn.plotting.style import COLORS, figure, save_figure, style
from ftnn.training.options import replace_values

SEEDS = (0, 1, 2)
DEPTHS, BLOCKS = (1, 2, 4, 8), (1, 2, 4)
FINE = (10, 20, 30)
HOME = RUNS / "burgers"
RESULTS = HOME / "results.json"
EXPERIMENT = get_experiment("burgers")

CASES: dict[str, dict[str, Any]] = {
    "published": {},
    "centered": {"initial": "centered"},
    "sharp": {
        "initial": "centered",
        "viscosity": 1e-3,
        "blocks": 4,
        "depth": 0,
        "channels": 16,
        "max_bond": 32,
        "lr": 1e-2,
    },
    "mild": {"initial": "waves", "viscosity": 0.01, "time": 0.05, "epochs": 100},
}
"""Changes of the tuned options, by case."""

FNOS = {"of as many parameters": (8, 10, 4), "of published size": (16, 64, 4)}
"""Modes, width and layers of Fourier neural operators."""

LARGEST = "of published size"

TIMED = 8
"""Functions on which seconds a function are measured."""

DIRECT, FEW = 20, 4
"""Bits of the grid to which an FNO is applied without interpolation, and number of functions."""


def options_for(case: str, sites: int | None = None, **changes: Any) -> BurgersOptions:
    """Return the options of a case, of one stage, on its coarse grid or on another one."""
    one = replace_values(
        EXPERIMENT.tuned_options(), {"fine_epochs": 0, "fine_lr": BurgersOptions.fine_lr}
    )
    options = replace_values(one, CASES[case] | changes)
    return replace_values(options, {"sites": options.coarse if sites is None else sites})


# ---- networks ------------------------------------------------------------------------------------


def name_of(
    case: str, seed: int, depth: int | None = None, sines: bool = True, blocks: int | None = None
) -> str:
    """Return the name of a run; a depth, or number of blocks, of None is the tuned one."""
    tuned = options_for(case)
    name = case
    if not sines or depth not in (None, tuned.depth):
        name += f"-{tuned.depth if depth is None else depth}"
    if not sines:
        name += "-polynomial"
    blocks = tuned.blocks if blocks is None else blocks
    if (blocks, tuned.blocks) != (1, 1):
        name += f"-{blocks}-blocks"
    return f"{name}-{seed}"


def train(case: str, seed: int, **changes: Any) -> None:
    """Train a network on the coarse grid of a case, unless that is done, and keep its memory.

    Parameters
    ----------
    case : str
    seed : int
    **changes
        Of :func:`name_of`.
    """
    name = name_of(case, seed, **changes)
    if "experiment" in read_summary(HOME / name):
        return
    options = {key: changes[key] for key in ("depth", "blocks") if key in changes}
    if not changes.get("sines", True):
        options["features"] = "linear"
    _, peak = in_process(_train, case, options, seed, HOME / name)
    kept(RESULTS, f"{name}, GiB", lambda: peak)


def _train(case: str, changes: dict[str, Any], seed: int, folder: Path) -> None:
    options = options_for(case, **changes)
    one = {"sites": options.coarse, "fine_epochs": 0, "seed": seed}
    trained(folder, "burgers", **(CASES[case] | changes | one))


def measure(name: str, case: str, sites: int) -> dict[str, float]:
    """Measure a network, carried over, on the test functions of a grid."""
    options = options_for(case, sites)
    data = EXPERIMENT.load(options)
    _, built = EXPERIMENT.build(options, data)
    model = carry(ftnn.load(HOME / name / "model.safetensors"), built).to("torch", "float64")
    inputs, targets = (_tensors(part) for part in (data.test_inputs, data.test_targets))
    few = select_rows(inputs, slice(TIMED))
    with torch.no_grad():
        squares = relative_squares(model.apply(inputs), targets)
        begin = time.perf_counter()
        model.apply(few)
        seconds = (time.perf_counter() - begin) / TIMED
    return {"error": float(squares.clamp(min=0).sqrt().mean()), "seconds": seconds}


def errors_of(name: str, case: str, sites: int) -> dict[str, float]:
    """Return the result of :func:`measure`, measured once."""
    return kept(RESULTS, f"{name}, {sites} sites", lambda: measure(name, case, sites))


def _tensors(cores: tuple[np.ndarray, ...]) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(core)) for core in cores)


# ---- Fourier neural operators --------------------------------------------------------------------


def train_fno(case: str, kind: str, sites: int, seed: int, seconds: float) -> dict[str, float]:
    """Train an FNO on 2^sites points, and measure it there and, interpolated, on all grids.

    The one of published size, trained on 2^10 points, is also applied to 2^DIRECT points.
    """
    (x, y), _, (x_test, y_test) = draw(options_for(case))
    points = 2**sites
    modes, width, depth = FNOS[kind]
    grid = [_on_grid(part, points) for part in (x, y, x_test)]
    inputs, targets, tests = (torch.from_numpy(part)[:, None] for part in grid)
    options = FNOOptions(
        min(modes, points // 2),
        width,
        depth,
        epochs=10**6,
        batch_size=20,
        seed=seed,
        seconds=seconds,
    )
    model = TrainedFNO(inputs, targets, options)
    found = model(tests)[:, 0].double().numpy()
    begin = time.perf_counter()
    model(tests[:TIMED])
    elapsed = (time.perf_counter() - begin) / TIMED
    result = {
        "on the grid": float(distances(found, _on_grid(y_test, points)).mean()),
        "error": float(interpolated(found, y_test).mean()),
        "parameters": model.num_params,
        "seconds": model.seconds,
        "epochs": model.steps * options.batch_size / len(inputs),
        "seconds a function": elapsed,
        "package": float(model.source == "neuraloperator"),
        "GiB": peak_memory(),
    }
    if (kind, sites) == (LARGEST, 10):
        result |= applied_directly(model, x_test, y_test)
        result["few, interpolated"] = float(interpolated(found, y_test)[:FEW].mean())
    return result


def applied_directly(model: TrainedFNO, x: Waves, y: Waves) -> dict[str, float]:
    """Apply an FNO to a few functions on 2^DIRECT points, one at a time."""
    points, errors, seconds = 2**DIRECT, [], []
    for n in range(FEW):
        one = torch.from_numpy(Waves(x.coefficients[n : n + 1]).on_grid(points))[:, None]
        begin = time.perf_counter()
        found = model(one)[:, 0].double().numpy()
        seconds.append(time.perf_counter() - begin)
        errors.append(distances(found, Waves(y.coefficients[n : n + 1]).on_grid(points)))
    return {
        "few, directly": float(np.mean(errors)),
        "seconds a function, directly": float(np.median(seconds)),
        "GiB, directly": peak_memory(),
    }


def peak_memory() -> float:
    """Return the peak of the resident memory of this process in GiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def interpolated(values: np.ndarray, expected: Waves) -> np.ndarray:
    """Return relative L2 errors of trigonometric interpolations, by Parseval's theorem."""
    found, exact = coefficients(values), expected.coefficients
    gap = np.zeros((len(values), max(found.shape[1], exact.shape[1])), complex)
    gap[:, : exact.shape[1]] = exact
    size = _norms(gap)
    gap[:, : found.shape[1]] -= found
    return _norms(gap) / size


def _norms(c: np.ndarray) -> np.ndarray:
    return np.sqrt(np.abs(c[:, 0]) ** 2 + 0.5 * (np.abs(c[:, 1:]) ** 2).sum(axis=1))


def _on_grid(waves: Waves, points: int) -> np.ndarray:
    return waves(np.arange(points) / points)


# ---- least squares -------------------------------------------------------------------------------


def least_squares(case: str, quadratic: bool) -> float:
    """Return the test error of the best affine or quadratic map, by ridge regression.

    From real and imaginary parts of the Fourier modes to values; the number of modes, too, is the
    best on the validation functions. Errors are weighted as they are measured, relative to the
    target.
    """
    train, val, test = draw(options_for(case))
    points = 2**10  # shocks are a hundredth wide
    best: tuple[float, float] | None = None
    for modes in (4, 8, 16) if quadratic else (4, 16, 64):
        parts = []
        for x, y in (train, val, test):
            c = x.coefficients[:, : modes + 1]
            features = np.concatenate([c[:, :1].real, c[:, 1:].real, c[:, 1:].imag], axis=1)
            if quadratic:
                features = quadratic_features(features)
            values = _on_grid(y, points)
            weights = 1.0 / np.linalg.norm(values, axis=1, keepdims=True)
            ones = np.concatenate([np.ones_like(weights), features], axis=1)
            parts.append((ones * weights, values * weights))
        found_val, found = (linear_map(parts[0], parts[1], part[0])[0] for part in parts[1:])
        error = float(distances(found_val, parts[1][1]).mean())
        if best is None or error < best[0]:
            best = error, float(distances(found, parts[2][1]).mean())
    assert best is not None
    return best[1]


# ---- pages ---------------------------------------------------------------------------------------


def results() -> dict[str, Any]:
    """Return all results so far."""
    return json.loads(RESULTS.read_text()) if RESULTS.is_file() else {}


def runs_of(case: str, **changes: Any) -> list[tuple[str, dict]]:
    """Return the names and the summaries of complete runs, with changes as in :func:`name_of`."""
    names = [name_of(case, seed, **changes) for seed in SEEDS]
    found = [(name, read_summary(HOME / name)) for name in names]
    return [(name, summary) for name, summary in found if "experiment" in summary]


def rows_of(case: str) -> list[list[str]]:
    """Make the rows of a case."""
    known, rows = results(), []
    runs = runs_of(case)
    if runs:
        errors = [[known.get(f"{n}, {s} sites") for n, _ in runs] for s in FINE]
        seconds = [part[0]["seconds"] for part in errors if part[0]]
        rows.append(
            [
                case,
                "this network",
                f"{runs[0][1]['num_params']:,}",
                f"{np.mean([s['train_seconds'] for _, s in runs]) / 60:.1f} min",
                f"{max(known.get(f'{n}, GiB', 0.0) for n, _ in runs):.1f} GiB",
                *(spread([e["error"] for e in part if e], ".2e") for part in errors),
                " / ".join(f"{1e3 * s:.0f} ms" for s in seconds),
            ]
        )
    for kind in FNOS:
        for sites in sorted({options_for(case).coarse, 10}):
            grid = f"2^{sites} points"
            name = f"{case}, FNO {kind}, {grid}"
            runs_here = [known[key] for key in known if key.rpartition(", ")[0] == name]
            if not runs_here:
                continue
            error = spread([run["error"] for run in runs_here], ".2e")
            rows.append(
                [
                    case,
                    f"FNO {kind}, trained on {grid}",
                    f"{runs_here[0]['parameters']:,.0f}",
                    f"{np.mean([run['seconds'] for run in runs_here]) / 60:.1f} min",
                    f"{max(run['GiB'] for run in runs_here):.1f} GiB",
                    error,
                    "the same, interpolated",
                    "the same, interpolated",
                    f"{1e3 * runs_here[0]['seconds a function']:.1f} ms",
                ]
            )
            for run in runs_here:
                if "few, directly" in run:
                    rows.append(
                        [
                            case,
                            f"the same, applied to 2^{DIRECT} points of {FEW} functions",
                            "",
                            "",
                            f"{run['GiB, directly']:.1f} GiB",
                            f"{run['few, interpolated']:.2e}",
                            f"{run['few, directly']:.2e}",
                            "",
                            f"{run['seconds a function, directly']:.0f} s on 2^{DIRECT}",
                        ]
                    )
    for label, key in (("best quadratic map", "quadratic"), ("best linear map", "linear")):
        value = known.get(f"{case}, {key}")
        if value is not None:
            rows.append([case, label, "", "", "", f"{value:.2e}", "", "", ""])
    if runs:
        rows.append([case, "input unchanged", "", "", "", f"{runs[0][1]['unchanged_error']:.2e}"])
        rows[-1] += ["", "", ""]
    return rows


def report() -> None:
    """Write the tables and pictures of what there is."""
    heads = ["case", "method", "parameters", "training", "peak memory", "error on 2^10", "on 2^20"]
    heads += ["on 2^30", "a function, 2^10 / 2^20 / 2^30"]
    write_table("burgers-table", heads, [row for case in CASES for row in rows_of(case)])
    lines = [
        [case, kind, str(number), spread(errors, ".2e"), f"{parameters:,}"]
        for case, kind, points in depth_curves()
        for number, errors, parameters in points
    ]
    if len(lines) > 1:
        heads = ["case", "network", "number", "error on the grid of training", "parameters"]
        write_table("burgers-depth-table", heads, lines)
        draw_depths()
    for case in CASES:
        if runs_of(case):
            copy_picture(HOME / name_of(case, 0) / "solutions.png", f"burgers-{case}.png")
    runs = runs_of("published")
    if runs:
        copy_picture(HOME / "published-0" / "network.png", "burgers-network.png")
        known = results()
        errors = [known[f"{name}, 20 sites"]["error"] for name, _ in runs]
        write_readme(
            "burgers",
            f"Relative error on unseen functions of $2^{{20}}$ points, "
            f"{runs[0][1]['num_params']:,} parameters: {spread(errors, '.2e')}.",
        )


def depth_curves() -> list[tuple[str, str, list[tuple[int, list[float], int]]]]:
    """Return cases, what is repeated, and numbers with the errors of all seeds and parameters."""
    curves: list[tuple[str, str, str, tuple[int, ...], dict[str, Any]]] = [
        ("sharp", "blocks of sines", "blocks", BLOCKS, {}),
        ("published", "gated layers behind sines", "depth", DEPTHS, {}),
        ("centered", "gated layers, no sines", "depth", DEPTHS, {"sines": False}),
    ]
    found = []
    for case, kind, name, numbers, changes in curves:
        points = []
        for number in numbers:
            runs = runs_of(case, **{name: number}, **changes)
            if runs:
                errors = [summary["test_error"] for _, summary in runs]
                points.append((number, errors, runs[0][1]["num_params"]))
        found.append((case, kind, points))
    return found


def draw_depths() -> None:
    """Draw errors against the number of blocks and of gated layers."""
    with style():
        fig = figure(4.6, 3.2)
        axis = fig.subplots()
        for n, (case, kind, points) in enumerate(depth_curves()):
            for number, errors, _ in points:
                shown = f"{case}: {kind}" if number == points[0][0] else None
                axis.loglog(
                    [number] * len(errors), errors, "o", color=COLORS[n], alpha=0.7, label=shown
                )
        axis.set(xlabel="blocks, or gated layers", ylabel="relative error", xticks=DEPTHS)
        axis.set_xticks(DEPTHS, [str(depth) for depth in DEPTHS])
        ticks = (2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5)
        axis.set_yticks(ticks, [f"{100 * tick:g} %" for tick in ticks])
        axis.set_ylim(1.5e-3, 2.0)  # room for the legend
        axis.minorticks_off()
        axis.legend(loc="upper right")
        save_figure(fig, DOCS / "images" / "burgers-depths.png")


def main() -> None:
    """Run parts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parts = ("networks", "depths", "fno", "maps", "report")
    parser.add_argument("parts", nargs="*", default=list(parts), help=", ".join(parts))
    parser.add_argument("--cases", nargs="+", default=list(CASES), choices=list(CASES))
    parser.add_argument("--kinds", nargs="+", default=list(FNOS), choices=list(FNOS))
    parser.add_argument("--grids", nargs="+", type=int, help="bits of the grids of FNOs")
    parser.add_argument("--seeds", nargs="+", type=int, default=list(SEEDS), choices=SEEDS)
    given = parser.parse_args()
    if unknown := set(given.parts) - set(parts):
        parser.error(f"parts are {', '.join(parts)}; got {', '.join(sorted(unknown))}")
    keep_freed_memory()
    torch.set_num_threads(1)
    if "networks" in given.parts:
        for seed in given.seeds:
            for case in given.cases:
                train(case, seed)
                for sites in FINE:
                    errors_of(name_of(case, seed), case, sites)
    if "depths" in given.parts:
        for seed in given.seeds:
            for depth in DEPTHS:
                for case, sines in (("centered", False), ("published", True)):
                    if case in given.cases:
                        train(case, seed, depth=depth, sines=sines)
            for blocks in BLOCKS:
                if "sharp" in given.cases:
                    train("sharp", seed, blocks=blocks)
    if "fno" in given.parts:
        for seed in given.seeds:
            for case in given.cases:
                for kind in given.kinds:
                    for sites in given.grids or sorted({options_for(case).coarse, 10}):
                        fno(case, kind, sites, seed)
    if "maps" in given.parts:
        for case in given.cases:
            kept(RESULTS, f"{case}, linear", lambda: least_squares(case, False))  # noqa: B023
            kept(RESULTS, f"{case}, quadratic", lambda: least_squares(case, True))  # noqa: B023
    if "report" in given.parts:
        report()


def fno(case: str, kind: str, sites: int, seed: int) -> None:
    """Train an FNO for as many seconds as the networks of a case took, unless that is done."""
    seconds = float(np.mean([summary["train_seconds"] for _, summary in runs_of(case)]))

    def measured() -> dict[str, float]:
        return in_process(train_fno, case, kind, sites, seed, seconds)[0]

    kept(RESULTS, f"{case}, FNO {kind}, 2^{sites} points, {seed}", measured)


if __name__ == "__main__":
    main()
