"""The table and the pictures of docs/quantum-phases.md.

`python benchmarks/studies/quantum_phases.py` trains every row with three seeds (complete runs in
runs/quantum-phases are kept), each test grid read once a run, and writes
docs/quantum-phases-table.md and docs/images/phases*.png. `--long` adds the chain of 135 sites,
whose ground states take an hour to make on two cores.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))

import ftnn
from benchmarks.pages import RUNS, copy_picture, spread, write_readme, write_table
from benchmarks.studies.runs import trained
from ftnn.experiments import get_experiment
from ftnn.experiments.quantum_phases.data import counted, grid_points, phases
from ftnn.experiments.quantum_phases.dressing import dress
from ftnn.training.options import replace_values

SEEDS = (0, 1, 2)
HOME = RUNS / "quantum-phases"
ROWS = (
    # name, its folder, changes of the options
    ("MPO layer, expectation values", "network", {}),
    ("the same, without dressing", "undressed", {"augment": False}),
    ("no MPO layer", "shallow", {"depth": 0}),
    ("two MPO layers", "deep", {"depth": 2}),
)


def linear_readout(folder: Path, seed: int) -> dict:
    """Train an MPS readout of the states themselves, with data and schedule of the network."""
    from ftnn.training import Trainer
    from ftnn.training.files import write_json

    result = folder / "result.json"
    if result.is_file():
        return json.loads(result.read_text())
    experiment = get_experiment("quantum-phases")
    options = replace_values(experiment.tuned_options(), {"seed": seed})
    data = experiment.load(options)
    readout = ftnn.Readout((2,) * len(data.train_inputs), 2, bond_dim=16, seed=seed)
    model = ftnn.Sequential(ftnn.nonlinear.RMSNorm(), readout)
    ftnn.calibrate(model, tuple(core.astype(np.float64) for core in data.train_inputs))
    trainer = Trainer(model, None, options.train, folder)
    fitted = trainer.fit(data, augment_states=dress, overwrite=True)
    found = trainer.evaluate(data.test_inputs, data.test_targets)
    points = np.array(grid_points(options.grid))
    agreed = found.predictions == phases(points)
    summary = {
        "agreement": float(np.mean(agreed[counted(points)])),
        "test_accuracy": found.score,
        "num_params": trainer.model.num_params(),
        "train_seconds": fitted.train_seconds,
    }
    write_json(result, summary)
    return summary


def line(name: str, sites: int, runs: list[dict]) -> list[str]:
    """One row of the table."""
    return [
        name,
        str(sites),
        spread([100 * r["agreement"] for r in runs], unit=" %"),
        spread([100 * r["test_accuracy"] for r in runs], unit=" %"),
        f"{runs[0]['num_params']:,}",
        f"{np.median([r['train_seconds'] for r in runs]):.0f} s",
    ]


def main() -> None:
    """Train what is missing and write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--long", action="store_true", help="also the chain of 135 sites")
    arguments = parser.parse_args()
    lines, order = [], {}
    for name, stem, changes in ROWS:
        runs = [
            trained(HOME / f"{stem}-{seed}", "quantum-phases", seed=seed, **changes)
            for seed in SEEDS
        ]
        lines.append(line(name, 45, runs))
        order[45] = runs[0]["string_order_agreement"]
    readouts = [linear_readout(HOME / f"linear-{seed}", seed) for seed in SEEDS]
    lines.append(line("linear readout of the state", 45, readouts))
    best = [trained(HOME / f"network-{seed}", "quantum-phases") for seed in SEEDS]
    write_readme(
        "quantum-phases",
        f"Agreement with the published phase diagram: "
        f"{spread([100 * r['agreement'] for r in best], unit=' %')}, {best[0]['num_params']:,} "
        f"parameters, {np.median([r['train_seconds'] for r in best]):.0f} s on one core.",
    )
    copy_picture(HOME / "network-0" / "phases.png", "phases.png")
    copy_picture(HOME / "network-0" / "curves.png", "phases-curves.png")
    copy_picture(HOME / "network-0" / "network.png", "phases-network.png")
    if arguments.long:
        runs = [
            trained(HOME / f"long-{seed}", "quantum-phases", seed=seed, sites=135) for seed in SEEDS
        ]
        lines.append(line("MPO layer, expectation values", 135, runs))
        order[135] = runs[0]["string_order_agreement"]
        copy_picture(HOME / "long-0" / "phases.png", "phases-135.png")
    for sites, agreement in order.items():
        lines.append(["string order", str(sites), f"{100 * agreement:.2f} %", "", "", ""])
    heads = ["model", "sites", "agreement", "accuracy on the whole grid", "parameters", "training"]
    write_table("quantum-phases-table", heads, lines)


if __name__ == "__main__":
    main()
