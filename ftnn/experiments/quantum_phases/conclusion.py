"""Conclusion: agreement with the known phase diagram, compared with string order."""

from pathlib import Path
from typing import Any

import numpy as np

from ...layers.layer import Layer
from ...plotting import Panel, plot_phases
from ..splits import Data
from .data import (
    BOUNDARY_H1,
    BOUNDARY_LOWER,
    BOUNDARY_UPPER,
    H1_RANGE,
    H2_RANGE,
    MARGIN,
    counted,
    grid_points,
    line_points,
    phases,
)
from .ground_states import string_order
from .options import PhasesOptions


def conclude(
    folder: Path, options: PhasesOptions, data: Data, model: Layer, evaluation: Any
) -> dict[str, Any]:
    """Compare with the known boundary and with string order; draw ``phases.png``."""
    points = np.array(grid_points(options.grid))
    labels, away = phases(points), counted(points)
    logits = evaluation.outputs - evaluation.outputs.max(axis=1, keepdims=True)
    chance = np.exp(logits[:, 1]) / np.exp(logits).sum(axis=1)
    agreement = float(np.mean(evaluation.predictions[away] == labels[away]))
    order, threshold = string_orders(data)
    by_order = float(np.mean((order > threshold)[away] == labels[away]))
    side = (options.grid, options.grid)
    edge = np.array(BOUNDARY_H1)
    plot_phases(
        [
            Panel("Network", "probability of the protected phase", chance.reshape(side), level=0.5),
            Panel("String order", "string order", order.reshape(side), level=threshold),
        ],
        np.linspace(*H1_RANGE, options.grid),
        np.linspace(*H2_RANGE, options.grid),
        [(edge, np.array(BOUNDARY_LOWER)), (edge, np.array(BOUNDARY_UPPER))],
        np.array(line_points()),
        folder / "phases.png",
    )
    where = f"{int(away.sum())} points, {MARGIN} from the boundary or farther"
    return {
        "agreement": agreement,
        "string_order_agreement": by_order,
        "remarks": {
            "agreement": [f"{agreement:.2%}", where],
            "string order": [f"{by_order:.2%}", "there; threshold from the training line"],
        },
    }


def string_orders(data: Data) -> tuple[np.ndarray, float]:
    """Compute string order of the test states, and the threshold that the training line gives.

    The string reaches from one tenth of the chain to nine tenths. The threshold lies midway
    between the lowest order of a protected state of the line and the highest of another.
    """
    sites = len(data.test_inputs)
    first = sites // 10
    last = sites - 1 - first
    last -= (last - first) % 2
    order = string_order(data.train_inputs, first, last)
    protected = data.train_targets == 1
    threshold = 0.5 * (order[protected].min() + order[~protected].max())
    return string_order(data.test_inputs, first, last), float(threshold)
