"""The metrics of a run: one JSON object a line, one line an epoch."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from .checkpoint import write_text

METRICS_NAME = "metrics.jsonl"


def append_metrics(run_dir: str | os.PathLike, record: dict[str, Any]) -> None:
    """Add one line and flush it to disk; NaN and infinity are written as null."""
    line = json.dumps(json_safe(record), allow_nan=False) + "\n"
    with open(Path(run_dir) / METRICS_NAME, "a", encoding="utf-8") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())


def read_metrics(run_dir: str | os.PathLike, num_lines: int | None = None) -> list[dict[str, Any]]:
    """Read the first ``num_lines`` epochs, by default all; what follows is not looked at.

    Raises
    ------
    ValueError
        If there are fewer lines, or one of them is not a JSON object.
    """
    path = Path(run_dir) / METRICS_NAME
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines() if path.exists() else []
    wanted = lines if num_lines is None else lines[:num_lines]
    records = []
    for number, line in enumerate(wanted, 1):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            record = None
        if not isinstance(record, dict):
            raise ValueError(
                f"{path}, line {number}: not a JSON object; restore the file, or train again in a "
                "new folder"
            )
        records.append(record)
    if num_lines is not None and len(records) < num_lines:
        raise ValueError(
            f"{path} has {len(records)} lines, but the checkpoint knows {num_lines} epochs; "
            "restore the file, or train again in a new folder"
        )
    return records


def rewrite_metrics(run_dir: str | os.PathLike, records: list[dict[str, Any]]) -> None:
    """Replace the file, in one step, by these records; no record leaves no file."""
    path = Path(run_dir) / METRICS_NAME
    if records:
        write_text(path, "".join(json.dumps(json_safe(r), allow_nan=False) + "\n" for r in records))
    else:
        path.unlink(missing_ok=True)


def json_safe(value: Any) -> Any:
    """JSON types for numbers of NumPy and torch, with None for what is not finite.

    Examples
    --------
    >>> json_safe({"loss": np.float32(0.5), "norm": float("inf"), "bonds": (4, np.int64(8))})
    {'loss': 0.5, 'norm': None, 'bonds': [4, 8]}
    """
    if isinstance(value, dict):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [json_safe(item) for item in value]
    if isinstance(value, np.ndarray):
        return json_safe(value.tolist())
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
