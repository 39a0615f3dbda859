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


def carried_over(stem: str, sites: int) -> list[float]:
    """Mean relative errors of trained models on a finer grid, without more training."""
    chosen = get_experiment("quantics")
    data = chosen.load(replace_values(chosen.tuned_options(), {"sites": sites}))
    inputs, targets = _tensors(data.test_inputs), _tensors(data.test_targets)
    errors = []
    for seed in SEEDS:
        model = ftnn.load(HOME / f"{stem}-{seed}" / "model.safetensors")
        with torch.no_grad():
            found = prolong(model, sites).to("torch", "float64").apply(inputs)
        squares = relative_squares(found, targets)
        errors.append(float(squares.clamp(min=0).sqrt().mean()))
    return errors


def readme_line() -> str:
    """Tell the results in one sentence."""
    errors = [trained(HOME / f"heat-{seed}", "quantics")["test_error"] for seed in SEEDS]
    return f"Relative error on unseen functions of $2^{{20}}$ points: {spread(errors, '.2e')}."


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
    heads = ["trained on", "tested on", "relative error", "largest", "parameters"]
    lines = []
    for stem, sites in (("heat", 20), ("heat30", 30)):
        runs = [trained(HOME / f"{stem}-{n}", "quantics", seed=n, sites=sites) for n in SEEDS]
        worst = max(run["largest_error"] for run in runs)
        grid = f"2^{sites}"
        errors = spread([run["test_error"] for run in runs], ".2e")
        size = f"{runs[0]['num_params']:,}"
        lines.append([grid, grid, errors, f"{worst:.1e}", size])
        if sites < 30:
            errors = spread(carried_over(stem, 30), ".2e")
            lines.append([grid, "2^30, carried over", errors, "", size])
        nothing = runs[0]["unchanged_error"]
        lines.append(["–", grid, f"{nothing:.2e} (input unchanged)", "", ""])
    write_table("quantics-table", heads, lines)
    write_readme("quantics", readme_line())
    copy_picture(HOME / "heat-0" / "solutions.png", "heat.png")
    copy_picture(HOME / "heat-0" / "network.png", "heat-network.png")
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
