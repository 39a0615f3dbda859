"""The figures of the README: every experiment with three seeds.

`python benchmarks/studies/figures.py` trains (skipping runs that are complete in runs/figures),
evaluates each test set once a run, and writes the table to docs/figures.md and to the README, and
pictures of the first seed to docs/images.
"""

import argparse
import os
import statistics
import sys
from pathlib import Path

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))

from benchmarks import pages
from benchmarks.pages import DOCS, copy_picture, write_readme
from benchmarks.studies.runs import trained

RUNS = pages.RUNS / "figures"
PICTURES = {
    "digits": {},
    "fashion-mnist": {name: name for name in ("network", "curves", "confusion")},
    "fashion-mnist-quantics": {
        name: f"quantics-{name}" for name in ("curves", "entanglement", "spectra", "functions-1")
    },
}
"""Experiments of the table; the pictures that are shown of each, and under which name."""


def train(experiment: str, seed: int) -> dict:
    """Train once, unless the run folder holds a summary already, and return the summary."""
    return trained(RUNS / f"{experiment}-{seed}", experiment, seed=seed)


def row(experiment: str, seeds: list[int]) -> str:
    """One row of the table: median over the seeds, and mean with standard deviation."""
    runs = [train(experiment, seed) for seed in seeds]
    accuracy = [100 * run["test_accuracy"] for run in runs]
    seconds = [run["train_seconds"] for run in runs]
    speed = [run["samples_per_s"] for run in runs]
    return (
        f"| {experiment} | {statistics.median(accuracy):.2f} % "
        f"| {statistics.mean(accuracy):.2f} ± {statistics.stdev(accuracy):.2f} % "
        f"({', '.join(f'{a:.2f}' for a in accuracy)}) "
        f"| {runs[0]['num_params']:,} | {statistics.median(seconds):.0f} s "
        f"| {statistics.median(speed):,.0f} | {runs[0]['device']}, {os.cpu_count()} cores |"
    )


def main() -> None:
    """Train what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("experiments", nargs="*", default=list(PICTURES))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    arguments = parser.parse_args()
    lines = [
        "| experiment | test accuracy, median | mean ± standard deviation (seeds "
        f"{', '.join(map(str, arguments.seeds))}) | parameters | training, median "
        "| samples/s | device |",
        "|---|---|---|---|---|---|---|",
        *(row(experiment, arguments.seeds) for experiment in arguments.experiments),
    ]
    table = "\n".join(lines) + "\n"
    (DOCS / "figures.md").write_text(table)
    write_readme("figures", f"\n{table}")
    for experiment in arguments.experiments:
        source = RUNS / f"{experiment}-{arguments.seeds[0]}"
        for name, shown in PICTURES[experiment].items():
            copy_picture(source / f"{name}.png", f"{shown}.png")
    print(table)


if __name__ == "__main__":
    main()
