"""Conclusion of the experiment on compression: the frontier, on test images and as a figure."""

from pathlib import Path
from typing import Any

import torch

from ...layers.layer import Layer
from ...tensorized import load
from ...training.data import Samples
from ..splits import Data
from .figure import CURVES, plot_frontier
from .frontier import MODEL, accuracy, place_of, row_of
from .model import DenseNetwork
from .options import CompressionOptions


def conclude(
    folder: Path, options: CompressionOptions, data: Data, model: Layer, evaluation: Any
) -> dict[str, Any]:
    """Read the test images once for every healed network; draw ``frontier.png``."""
    assert isinstance(model, DenseNetwork)
    dense = model.module()
    val, test = (
        Samples((torch.from_numpy(inputs[0]),), (torch.from_numpy(targets),))
        for inputs, targets in (data.split("val"), data.split("test"))
    )
    rows, remarks = [], {}
    for ratio in options.numbers:
        row = row_of(folder, ratio)
        rows.append(row)
        name = f"{ratio:g} times fewer"
        if "error" in row:
            remarks[name] = ["–", row["error"]]
            continue
        row["test_accuracy"] = accuracy(load(dense, place_of(folder, ratio) / MODEL), test)
        course = " → ".join(f"{100 * row[key]:.1f}" for key in CURVES)
        remarks[name] = [f"{row['test_accuracy']:.2%}", f"test; val {course} %"]
    drawn = [row for row in rows if "error" not in row]
    if drawn:
        plot_frontier(drawn, accuracy(dense, val), folder / "frontier.png")
    return {"frontier": rows, "remarks": remarks}
