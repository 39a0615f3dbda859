"""Rows of a table in three splits, with classes or numbers as targets."""

from dataclasses import dataclass

import numpy as np

from ...encoding.entries import is_missing
from ..folder import Run, read_summary
from ..splits import Data, NewSamples, hold_out
from .csv_file import Table, read_csv
from .options import TableOptions

MOST_CLASSES = 20
"""Integers count as classes if there are at most this many distinct values."""

LEAST_OF_CLASS = 5
"""Smallest number of rows per class that leaves some in each split."""


@dataclass(frozen=True, eq=False)
class TableData(Data):
    """Rows of a table.

    Attributes
    ----------
    column_names : tuple of str
        Names of the input columns.
    kinds : tuple of str
        "numeric" or "category", one per input column.
    mean, scale : float
        Mean and scale of numeric targets in the training rows: targets are (number - mean) / scale.
    """

    column_names: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    mean: float = 0.0
    scale: float = 1.0


def load(options: TableOptions) -> TableData:
    """Load a CSV file and hold out rows for validation and for the test, by the seed.

    A tenth of the rows outside the test set is used for validation. Numbers to predict are shifted
    and scaled to mean 0 and variance 1 of the training rows.
    """
    table, target = _table(options)
    column = table.column(target, "--target")
    gaps = np.array([is_missing(value) for value in column])
    if gaps.any():
        raise ValueError(
            f"{table.path}, line {table.lines[gaps.argmax()]}: {target!r} is missing; fill it in, "
            "or drop the row"
        )
    names = [name for name in table.names if name != target]
    if not names:
        raise ValueError(f"{table.path}: has no column but {target!r}; add at least one input")
    kinds = tuple(map(table.kind, names))
    table.check_numbers(names, kinds)
    rows, seed = table.select(names), options.train.seed
    values = _numbers(column)
    if values is None and options.task != "classes":
        table.kind(target)  # a number written in another way?
    classes = _are_classes(values, options.task)
    if not classes and values is None:
        raise ValueError(f"task is 'numbers', but column {target!r} of {table.path} holds text")
    if classes:
        targets, class_names = _labels(column, table, target)
    else:
        assert values is not None
        targets, class_names = values, ()
    size = max(round(options.held_out * len(rows)), len(class_names), 1)
    stay, y, test, y_test = hold_out(rows, targets, size, 0, classes, "rows")
    size = max(round(0.1 * len(stay)), len(class_names), 1)
    train, y_train, val, y_val = hold_out(stay, y, size, seed, classes, "rows")
    mean, scale = 0.0, 1.0
    if not classes:
        mean, scale = float(y_train.mean()), float(y_train.std())
        if scale == 0.0:
            raise ValueError(f"{table.path}: the numbers of column {target!r} are all the same")
        y_train, y_val, y_test = ((part - mean) / scale for part in (y_train, y_val, y_test))
    parts = (train, y_train, val, y_val, test, y_test)
    data = TableData(*parts, class_names, tuple(names), kinds, mean, scale)
    return data.limited(options.limit)


def read(run: Run, path: str, with_targets: bool) -> NewSamples:
    """Read new rows for a trained model, from a file with the columns it was trained on."""
    table = read_csv(path, run.options.decimal)
    schema = run.fitted_encoder().schema  # type: ignore[attr-defined]
    inputs = table.select(schema.names)
    table.check_numbers(schema.names, schema.kinds)
    summary = read_summary(run.path)
    class_names = tuple(summary.get("class_names", ()))
    if not class_names and "target_scale" not in summary:
        raise ValueError(f"{run.path} is not finished; resume it with `ftnn train --resume`")
    lines = [f"line {line}" for line in table.lines]
    if not with_targets:
        return NewSamples(inputs, None, class_names, lines)
    column = table.column(run.options.target, "--target")
    if class_names:
        words = [_word(value) for value in column]
        new = next((k for k, word in enumerate(words) if word not in class_names), None)
        if new is not None:
            raise ValueError(
                f"{path}, line {table.lines[new]}: {run.options.target!r} is {words[new]!r}, "
                f"expected one of {', '.join(class_names)}"
            )
        labels = np.array([class_names.index(word) for word in words], dtype=np.int64)
        return NewSamples(inputs, labels, class_names, lines)
    values = _numbers(column)
    if values is None:
        raise ValueError(f"{path}: column {run.options.target!r} holds text, expected numbers")
    scaled = (values - summary["target_mean"]) / summary["target_scale"]
    return NewSamples(inputs, scaled, (), lines)


def _table(options: TableOptions) -> tuple[Table, str]:
    if options.data is None:
        raise FileNotFoundError("--data is missing; give --data FILE --target COLUMN")
    if options.target is None:
        raise ValueError("--target is missing; give --target COLUMN, the column to predict")
    return read_csv(options.data, options.decimal), options.target


def _numbers(column: np.ndarray) -> np.ndarray | None:
    """Return a column as float64 array (n,), or None if it holds text or infinite numbers."""
    try:
        values = column.astype(np.float64)
    except ValueError:
        return None
    return values if np.isfinite(values).all() else None


def _are_classes(values: np.ndarray | None, task: str) -> bool:
    if task != "auto":
        return task == "classes"
    if values is None:
        return True
    return bool((values == values.round()).all()) and len(np.unique(values)) <= MOST_CLASSES


def _labels(column: np.ndarray, table: Table, target: str) -> tuple[np.ndarray, tuple[str, ...]]:
    words = np.array([_word(value) for value in column], dtype=object)
    names, labels, counts = np.unique(words, return_inverse=True, return_counts=True)
    if len(names) < 2:
        raise ValueError(
            f"{table.path}: column {target!r} has one class only, {names[0]!r}; expected two or "
            "more"
        )
    if counts.min() < LEAST_OF_CLASS:
        raise ValueError(
            f"{table.path}: class {names[counts.argmin()]!r} of column {target!r} has "
            f"{counts.min()} rows, expected at least {LEAST_OF_CLASS}; drop it, merge it with "
            "another, or give --task numbers if these are numbers"
        )
    return labels.astype(np.int64), tuple(map(str, names))


def _word(value: str) -> str:
    """Return the name of a class: 1 and 1.0 are the same."""
    number = _numbers(np.array([value], dtype=object))
    if number is not None and number[0] == round(number[0]):
        return str(int(number[0]))
    return value
