"""The table of docs/layers.md on trained networks put on states.

`python benchmarks/studies/states.py` takes the dense networks 784-1024-1024-10 that
benchmarks/studies/tensorize.py trains on Fashion-MNIST, puts them on states at several bonds, and
writes docs/from-dense-table.md: errors by layer on training images, right answers on validation
images. Results are kept in runs/states/results.json. Seeds can be chosen: `... 0 1`; the table is
of those that all rows have.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

if not __package__:  # run as a script
    sys.path.insert(0, str(Path(__file__).parents[2]))

import ftnn
from benchmarks.pages import RUNS, write_table
from benchmarks.studies.runs import kept
from benchmarks.studies.tensorize import accuracy, dense, images

SEEDS = (0, 1, 2)
RESULTS = RUNS / "states" / "results.json"
COUNT, BATCH = 256, 32
"""Validation images that are classified, and how many at once."""

CALIBRATION = 10_000
"""Training images for the order of neurons and the metric of weights; errors are of the first."""

DIMS = {"in_dims": (28, 28), "hidden_dims": ((32, 32), (32, 32))}
ROWS: tuple[dict[str, Any], ...] = (
    {"bond_dim": None, "max_bond": 16},
    {"bond_dim": None, "max_bond": 8},
    {"bond_dim": 64, "max_bond": 16},
    {"bond_dim": 64, "max_bond": 8},
    {"bond_dim": 64, "max_bond": 16, "order": False},
    {"bond_dim": 64, "max_bond": 16, "nonlinearity": "kan"},
)
"""Bonds of weights and of states, None for the largest there are, and other options."""

REMARKS = {"order": "neurons in their own order", "nonlinearity": "`KAN` for ReLU"}
HEADS = ("bond of weights", "of states", "parameters", "input", "first layer", "ReLU",
         "second layer", "ReLU", "logits", "right answers", "of the dense network")  # fmt: skip


def measure(seed: int, options: dict[str, Any]) -> dict[str, Any]:
    """Put a network on states; its errors by layer, and right answers."""
    data = images()
    model = dense(seed, data)
    inputs, classes = (part[:COUNT] for part in data["val"])
    found = ftnn.from_dense(model, inputs=data["train"][0][:CALIBRATION], **DIMS, **options)
    outputs = [found.model(found.encode(part)) for part in inputs.split(BATCH)]
    return {
        "errors": [row.error for row in found.rows],
        "truncations": [row.truncation for row in found.rows],
        "params": found.params,
        "dense_params": found.dense_params,
        "right": float((np.concatenate(outputs).argmax(1) == classes.numpy()).mean()),
        "dense": accuracy(model, (inputs, classes)),
    }


def named(options: dict[str, Any], seed: int) -> str:
    """Return the name of a result."""
    return ", ".join(f"{key} {value}" for key, value in (options | {"seed": seed}).items())


def line(options: dict[str, Any], results: list[dict[str, Any]]) -> list[str]:
    """Return a row of the table: means over seeds."""
    bonds = ["full" if options[key] is None else str(options[key]) for key in ROWS[0]]
    remarks = [words for key, words in REMARKS.items() if key in options]
    cells = [", ".join([bonds[0], *remarks]), bonds[1], f"{results[0]['params']:,}"]
    cells += [f"{100 * value:.1f} %" for value in np.mean([r["errors"] for r in results], axis=0)]
    cells += [f"{100 * np.mean([r[key] for r in results]):.1f} %" for key in ("right", "dense")]
    return cells


def main(seeds: list[int]) -> None:
    """Measure what is not measured yet, and write the table."""
    found: dict[int, list[dict[str, Any]]] = {n: [] for n in range(len(ROWS))}
    for seed in seeds:
        for n, options in enumerate(ROWS):
            result = kept(RESULTS, named(options, seed), lambda: measure(seed, options))  # noqa: B023
            found[n].append(result)
        lines = [line(options, found[n]) for n, options in enumerate(ROWS)]
        write_table("from-dense-table", HEADS, lines)


if __name__ == "__main__":
    main([int(word) for word in sys.argv[1:]] or list(SEEDS))
