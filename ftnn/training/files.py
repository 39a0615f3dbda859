"""Text files of a run folder: read with clear errors, written atomically."""

import json
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from ..layers.atomic import clear_write_errors, replacing


def parse_json(text: str, where: str, remedy: str) -> Any:
    """Parse JSON that may be damaged.

    Parameters
    ----------
    text : str
    where : str
        Name of the file in errors, with the line where there are several.
    remedy : str
        Remedy for a damaged file, stated in errors.

    Raises
    ------
    ValueError
        If the text is not JSON, or exceeds Python's limits on nesting or numbers.

    Examples
    --------
    >>> parse_json("[" * 100_000, "x.json", "restore it")
    Traceback (most recent call last):
    ...
    ValueError: x.json is not valid JSON (nested too deeply); restore it
    """
    try:
        return json.loads(text)
    except RecursionError:
        reason = "nested too deeply"
    except ValueError as error:  # that of json, or of a number with thousands of digits
        reason = str(error)
    raise ValueError(f"{where} is not valid JSON ({reason}); {remedy}")


def read_json(path: str | os.PathLike, remedy: str) -> Any:
    """Read a JSON file that may be damaged; see :func:`parse_json`."""
    try:
        text = read_bytes(path, remedy).decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not valid JSON ({error}); {remedy}") from None
    return parse_json(text, str(path), remedy)


def read_bytes(path: str | os.PathLike, remedy: str) -> bytes:
    """Read a file, or raise ``ValueError`` if it is a folder, a pipe or a device.

    A pipe would never end, nor some devices.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is a folder, a pipe or a device, expected a file; {remedy}")
    return path.read_bytes()


def write_json(path: str | os.PathLike, content: Any) -> None:
    """Replace a JSON file atomically."""
    write_text(path, json.dumps(content, allow_nan=False) + "\n")


def write_text(path: str | os.PathLike, text: str) -> None:
    """Replace a text file atomically."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_text(path: str | os.PathLike, text: str) -> None:
    """Append to a text file and flush it to disk: all of ``text`` or, on an error, nothing."""
    data = text.encode()
    with clear_write_errors(path):
        number = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
        try:
            size = os.fstat(number).st_size
            try:
                written = 0
                while written < len(data):
                    written += os.write(number, data[written:])
                os.fsync(number)
            except OSError:
                os.ftruncate(number, size)
                raise
        finally:
            os.close(number)


def json_safe(value: Any) -> Any:
    """Return JSON types for NumPy numbers, with None for non-finite ones.

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
