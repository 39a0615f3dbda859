"""Conclusion of the experiment on two scales: errors by scale, the Neumann product, a figure."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from ...chains.distance import relative_squares
from ...encoding.functions import on_coarser_grid
from ...layers.layer import Layer
from ...plotting import plot_solutions
from ...training.inputs import select_rows
from ...training.options import replace_values
from ..splits import Data
from .data import DRAWS, SIZES, random_coefficients
from .model import build
from .options import TwoScaleOptions

_SHOWN = 3
_SHOWN_SITES = 10


def conclude(
    folder: Path, options: TwoScaleOptions, data: Data, model: Layer, evaluation: Any
) -> dict[str, Any]:
    """Compare with the Neumann product of as many factors; draw ``solutions.png``."""
    bits = random_coefficients(SIZES[2], DRAWS[2]).bits(options.sites)
    neumann = untrained_error(options, data)
    few = slice(_SHOWN)
    inputs, targets = select_rows(data.test_inputs, few), select_rows(data.test_targets, few)
    outputs = deepcopy(model).to("numpy", "float64").apply(inputs)
    shown = min(_SHOWN_SITES, options.sites)
    first, second, third = (on_coarser_grid(cores, shown) for cores in (inputs, targets, outputs))
    plot_solutions(
        first,
        second,
        third,
        evaluation.scores[few],
        f"$2^{{{options.sites}}}$ points",
        folder / "solutions.png",
        labels=("coefficient, $a$", "solution, $u$"),
    )
    worst = float(evaluation.scores.max())
    return {
        "largest_error": worst,
        "neumann_error": neumann,
        "errors_by_bits": {
            str(n): float(evaluation.scores[bits == n].mean()) for n in np.unique(bits)
        },
        "remarks": {
            "largest error": [f"{worst:.2e}", "of all test functions"],
            "Neumann product": [f"{neumann:.2e}", "error of as many factors, without training"],
        },
    }


def untrained_error(options: TwoScaleOptions, data: Data) -> float:
    """Return the mean relative error, on the test functions, of the exact construction."""
    _, model = build(replace_values(options, {"noise": 0.0}), data)
    found = model.apply(data.test_inputs)
    return float(np.sqrt(np.maximum(relative_squares(found, data.test_targets), 0.0)).mean())
