"""What the summary of a table says beside the score."""

from pathlib import Path
from typing import Any

import numpy as np

from ...layers.layer import Layer
from .data import TableData
from .model import decision
from .options import TableOptions


def conclude(
    folder: Path, options: TableOptions, data: TableData, model: Layer, evaluation: Any
) -> dict[str, Any]:
    """Store mean and scale of numeric targets; report error, R², and lack of training."""
    remarks: dict[str, list[str]] = {}
    if not decision(options, data).epochs:
        remarks["training"] = ["none", "held-out rows do not gain by it: a linear model"]
    if data.class_names:
        return {"remarks": remarks}
    squares = np.mean((evaluation.outputs[:, 0] - data.test_targets) ** 2)
    r2 = 1.0 - float(squares / np.mean((data.test_targets - data.test_targets.mean()) ** 2))
    deviation = f"{evaluation.score * data.scale:.4g}"
    remarks |= {
        "mean absolute error": [deviation, f"in the unit of {options.target}"],
        "R²": [f"{r2:.4f}", "1 is perfect, 0 as good as the mean"],
    }
    return {
        "target_mean": data.mean,
        "target_scale": data.scale,
        "r2": r2,
        "remarks": remarks,
    }
