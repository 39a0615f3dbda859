"""The tables and the pictures of docs/quantics.md.

`python benchmarks/studies/quantics.py` trains every row with three seeds (complete runs in
runs/quantics are kept), each test set read once a run; carries models over to finer grids; times
steps; and writes docs/quantics-table.md, docs/quantics-cost.md and pictures to docs/images.
"""

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))


import ftnn
from benchmarks.pages import DOCS, RUNS, copy_picture, spread, write_readme, write_table
from benchmarks.studies.runs import trained
from ftnn.chains.distance import relative_squares
from ftnn.experiments import get_experiment
from ftnn.experiments.burgers import data as burgers
from ftnn.experiments.quantics import data as quantics
from ftnn.layers.surgery import prolong
from ftnn.measure.memory import keep_freed_memory
from ftnn.measure.timing import Timer, compare, training_step
from ftnn.plotting.style import COLORS, figure, save_figure, style
from ftnn.training import TorchModule
from ftnn.training.options import replace_values

SEEDS = (0, 1, 2)
HOME = RUNS / "quantics"
BATCH, ROUNDS = 32, 5
SITES = (10, 15, 20, 25, 30, 35, 40)
SECOND = {"fine_epochs": 0, "epochs": 15, "lr": 1e-3}  # stage of `ftnn train burgers`


def test_error(model: ftnn.Sequential, experiment: str, sites: int) -> float:
    """Mean relative error on the test functions."""
    chosen = get_experiment(experiment)
    data = chosen.load(replace_values(chosen.tuned_options(), {"sites": sites}))
    found = model.to("torch", "float64").apply(_tensors(data.test_inputs))
    return float(relative_squares(found, _tensors(data.test_targets)).clamp(min=0).sqrt().mean())


def carried_over(folder: str, experiment: str, sites: int) -> list[float]:
    """Errors of trained models on a finer grid, without more training."""
    errors = []
    for seed in SEEDS:
        model = ftnn.load(HOME / f"{folder}-{seed}" / "model.safetensors")
        with torch.no_grad():
            errors.append(test_error(prolong(model, sites), experiment, sites))
    return errors


def linear_error() -> float:
    """Test error for Burgers of the linear map that fits the training pairs best."""
    points = np.arange(1024) / 1024
    parts = []
    for number, size in enumerate(quantics.SIZES):
        start = quantics.random_waves(size, burgers.MODES, seed=number)
        end = burgers.burgers(start, burgers.TIME)
        c = start.coefficients
        parts.append((np.concatenate([c.real, c.imag[:, 1:]], axis=1), end(points)))
    (x, y), _, (x_test, y_test) = parts
    found = x_test @ np.linalg.lstsq(x, y, rcond=None)[0]
    return float(np.mean(np.linalg.norm(found - y_test, axis=1) / np.linalg.norm(y_test, axis=1)))


def readme_line() -> str:
    """Tell the results in one sentence."""
    linear, nonlinear = (
        [trained(HOME / f"{stem}-{seed}", experiment)["test_error"] for seed in SEEDS]
        for stem, experiment in (("heat", "quantics"), ("burgers20", "burgers"))
    )
    return (
        f"Relative error on unseen functions of $2^{{20}}$ points: heat {spread(linear, '.2e')}; "
        f"Burgers, from coarse to fine, {spread(nonlinear, '.2e')}."
    )


def step_of(sites: int) -> Callable[[], None]:
    """Training step for the heat equation: forward, backward, update."""
    experiment = get_experiment("quantics")
    options = replace_values(experiment.tuned_options(), {"sites": sites, "limit": BATCH})
    data = experiment.load(options)
    _, model = experiment.build(options, data)
    module = TorchModule(model, "float64")
    inputs, targets = _tensors(data.train_inputs), _tensors(data.train_targets)

    def loss() -> torch.Tensor:
        return relative_squares(module.apply_cores(inputs), targets).mean()

    return training_step(module.parameters(), loss, lr=1e-3)


def draw_cost(seconds: list[float]) -> None:
    """Draw the time of a step against the number of sites."""
    with style():
        fig = figure(4.6, 3.0)
        axis = fig.subplots()
        slope, start = np.polyfit(SITES, np.multiply(seconds, 1e3), 1)
        axis.plot(SITES, np.multiply(seconds, 1e3), "o", color=COLORS[0], label="measured")
        axis.plot(
            SITES,
            slope * np.array(SITES) + start,
            color=COLORS[1],
            lw=1.0,
            label=f"{slope:.1f} ms a site",
        )
        axis.set(xlabel="sites $L$ (grid of $2^L$ points)", ylabel="ms a step", ylim=(0, None))
        axis.set_title(f"A training step, batch {BATCH}")
        axis.legend()
        save_figure(fig, DOCS / "images" / "quantics-cost.png")


def _tensors(cores: tuple) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(core)) for core in cores)


def main() -> None:
    """Train what is missing, write tables and pictures."""
    keep_freed_memory()
    torch.set_num_threads(1)
    heads = ["equation", "trained on", "tested on", "relative error", "largest", "parameters"]
    lines = []
    for equation, experiment, stem, sites, more, start in (
        ("heat", "quantics", "heat", 20, {}, ""),
        ("heat", "quantics", "heat30", 30, {}, ""),
        ("Burgers", "burgers", "burgers10", 10, {"fine_epochs": 0}, ""),
        ("Burgers", "burgers", "burgers20", 20, SECOND, "burgers10"),
    ):
        runs = []
        for seed in SEEDS:
            changes = {"seed": seed, "sites": sites} | more
            if start:
                changes["start"] = str(HOME / f"{start}-{seed}")
            runs.append(trained(HOME / f"{stem}-{seed}", experiment, **changes))
        worst = max(run["largest_error"] for run in runs)
        grid = f"2^{sites}"
        grids = f"2^10, then {grid}" if start else grid
        errors = spread([run["test_error"] for run in runs], ".2e")
        size = f"{runs[0]['num_params']:,}"
        lines.append([equation, grids, grid, errors, f"{worst:.1e}", size])
        for finer in (20, 30):
            if finer > sites:
                errors = spread(carried_over(stem, experiment, finer), ".2e")
                lines.append([equation, grids, f"2^{finer}, carried over", errors, "", size])
        nothing = runs[0]["unchanged_error"]
        lines.append([equation, "–", grid, f"{nothing:.2e} (input unchanged)", "", ""])
    lines.append(["Burgers", "2^10", "2^10", f"{linear_error():.2e} (best linear map)", "", ""])
    write_table("quantics-table", heads, lines)
    write_readme("quantics", readme_line())
    for stem in ("heat", "burgers20"):
        copy_picture(HOME / f"{stem}-0" / "solutions.png", f"{stem}.png")
        copy_picture(HOME / f"{stem}-0" / "network.png", f"{stem}-network.png")
    timers = {str(sites): Timer(step_of(sites)) for sites in SITES}
    seconds = list(compare(timers, ROUNDS).values())
    draw_cost(seconds)
    write_table(
        "quantics-cost",
        ["sites", *map(str, SITES)],
        [["ms a step", *(f"{1e3 * s:.0f}" for s in seconds)]],
    )


if __name__ == "__main__":
    main()
