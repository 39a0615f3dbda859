"""The figures of the README: every experiment with three seeds, through the command line.

`python benchmarks/figures.py digits fashion-mnist` trains (skipping runs that are complete in
runs/figures), evaluates each test set once a run, and writes the table to docs/figures.md and to
the README, and the pictures of the first seed of the last experiment to docs/images.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
RUNS = ROOT / "runs" / "figures"


def train(experiment: str, seed: int) -> dict:
    """Train once, unless the run folder holds a summary already, and return the summary."""
    run = RUNS / f"{experiment}-{seed}"
    summary = run / "summary.json"
    if not summary.is_file():
        command = [sys.executable, "-m", "ftnn", "train", experiment]
        command += ["--seed", str(seed), "--out", str(run)]
        subprocess.run(command, check=True, cwd=ROOT)
    return json.loads(summary.read_text())


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
    parser.add_argument("experiments", nargs="*", default=["digits", "fashion-mnist"])
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
    (ROOT / "docs" / "figures.md").write_text(table)
    readme = ROOT / "README.md"
    marked = re.compile(r"(<!-- figures -->\n).*?(<!-- end -->)", re.DOTALL)
    readme.write_text(marked.sub(lambda m: f"{m[1]}\n{table}\n{m[2]}", readme.read_text()))
    images = ROOT / "docs" / "images"
    images.mkdir(exist_ok=True)
    source = RUNS / f"{arguments.experiments[-1]}-{arguments.seeds[0]}"
    for name in ("network", "curves", "confusion", "bonds", "entanglement", "functions-1"):
        shutil.copy(source / f"{name}.png", images / f"{name}.png")
    print(table)


if __name__ == "__main__":
    main()
