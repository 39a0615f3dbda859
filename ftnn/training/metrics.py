"""The metrics of a run: one JSON object per line, one line per epoch."""

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .files import append_text, json_safe, parse_json, read_bytes, write_text

METRICS_NAME = "metrics.jsonl"
_REMEDY = "restore the file, or train again in a new folder"
_LARGEST = 1e200
_NUMBERS = ("lr", "grad_norm", "seconds", "samples_per_s")
_BY_LAYER = ("truncation_error", "entropies", "bond_dims")


def append_metrics(run_dir: str | os.PathLike, record: dict[str, Any]) -> None:
    """Append one line and flush it to disk; NaN and infinity are written as null."""
    append_text(Path(run_dir) / METRICS_NAME, _line(record))


def read_metrics(run_dir: str | os.PathLike, num_lines: int | None = None) -> list[dict[str, Any]]:
    """Read the first ``num_lines`` epochs, by default all; the rest is ignored.

    Raises
    ------
    ValueError
        If there are fewer lines, or one of them is not a JSON object, or has something else in
        place of a number; the message names the file, the line, and the key.
    """
    path = Path(run_dir) / METRICS_NAME
    text = read_bytes(path, _REMEDY).decode(errors="replace") if path.exists() else ""
    lines = text.splitlines()
    records = []
    for number, line in enumerate(lines if num_lines is None else lines[:num_lines], 1):
        where = f"{path}, line {number}"
        record = parse_json(line, where, _REMEDY)
        if not isinstance(record, dict):
            raise ValueError(f"{where} is not a JSON object; {_REMEDY}")
        _check_record(record, where)
        records.append(record)
    if num_lines is not None and len(records) < num_lines:
        raise ValueError(
            f"{path} has {len(records)} lines, but the run has {num_lines} epochs; {_REMEDY}"
        )
    return records


def rewrite_metrics(run_dir: str | os.PathLike, records: list[dict[str, Any]]) -> None:
    """Replace the file atomically by these records; remove it if there are none."""
    path = Path(run_dir) / METRICS_NAME
    if records:
        write_text(path, "".join(map(_line, records)))
    else:
        path.unlink(missing_ok=True)


def _line(record: dict[str, Any]) -> str:
    return json.dumps(json_safe(record), allow_nan=False) + "\n"


def _check_record(record: dict[str, Any], where: str) -> None:
    """Raise ``ValueError`` if a value that must be a number is not."""
    for key in ("epoch", "step"):
        if key in record and not (_is(record[key], int) and 0 <= record[key] < 2**53):
            raise ValueError(f"{where}: {key} is {_text(record[key])}, expected a count; {_REMEDY}")
    if "epoch" not in record:
        raise ValueError(f"{where}: epoch is missing; {_REMEDY}")
    for key, value in record.items():
        if key in _NUMBERS or key.startswith(("train_", "val_")):
            _check_numbers([value], f"{where}: {key}")
        elif key in _BY_LAYER and value is not None:
            if not isinstance(value, dict):
                raise ValueError(f"{where}: {key} is {value!r:.40}, expected an object; {_REMEDY}")
            for layer, numbers in value.items():
                given = numbers if isinstance(numbers, list) else [numbers]
                _check_numbers(given, f"{where}: {key} of layer {layer!r:.40}")


def _check_numbers(values: Iterable[Any], what: str) -> None:
    for value in values:
        if value is not None and not (
            (_is(value, float) and abs(value) < _LARGEST)
            or (_is(value, int) and abs(value) < 2**63)
        ):
            raise ValueError(
                f"{what} is {_text(value)}, expected a number below {_LARGEST:g} or null; {_REMEDY}"
            )


def _is(value: Any, kind: Any) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _text(value: Any) -> str:
    """Describe a value in a few characters; Python refuses to print integers of 5000 digits."""
    large = _is(value, int) and abs(value) >= 2**63
    return "an integer beyond 64 bits" if large else f"{value!r:.40}"
