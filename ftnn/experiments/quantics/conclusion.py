"""Conclusion of the experiments on functions: errors compared with the identity, and a figure."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np

from ...chains.distance import relative_squares
from ...encoding.functions import on_coarser_grid
from ...layers.layer import Layer
from ...plotting import plot_solutions
from ...training.inputs import select_rows
from ..splits import Data
from .options import QuanticsOptions

_SHOWN = 3
_SHOWN_SITES = 10


def conclude(
    folder: Path, options: QuanticsOptions, data: Data, model: Layer, evaluation: Any
) -> dict[str, Any]:
    """Compare with an unchanged input; draw ``solutions.png``."""
    unchanged = float(np.sqrt(relative_squares(data.test_inputs, data.test_targets)).mean())
    few = slice(_SHOWN)
    inputs, targets = select_rows(data.test_inputs, few), select_rows(data.test_targets, few)
    outputs = deepcopy(model).to("numpy", "float64").apply(inputs)
    sites = len(inputs)
    first, second, third = (
        on_coarser_grid(cores, min(_SHOWN_SITES, sites)) for cores in (inputs, targets, outputs)
    )
    title = f"$2^{{{sites}}}$ points"
    plot_solutions(first, second, third, evaluation.scores[few], title, folder / "solutions.png")
    worst = float(evaluation.scores.max())
    return {
        "largest_error": worst,
        "unchanged_error": unchanged,
        "remarks": {
            "largest error": [f"{worst:.2e}", "of all test functions"],
            "unchanged input": [f"{unchanged:.2e}", "error of doing nothing"],
        },
    }
