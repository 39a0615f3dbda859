"""Columns of a table: their kinds, their selection, their numbers and categories."""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from .entries import MISSING, UNKNOWN, category_codes, numbers

KINDS = ("numeric", "category")


@dataclass(frozen=True)
class Schema:
    """Description of the columns of a table, determined by fitting.

    Attributes
    ----------
    names : list of str, or None
        Names of the columns of a data frame.
    kinds : list of str
        "numeric" or "category", one per column.
    categories : list of list of str
        Categories of every column, in alphabetical order; empty for numbers.
    missing : list of bool
        Whether the column has a channel for missing values.
    """

    names: list[str] | None = None
    kinds: list[str] = field(default_factory=list)
    categories: list[list[str]] = field(default_factory=list)
    missing: list[bool] = field(default_factory=list)

    def of_kind(self, kind: str) -> list[int]:
        """Return the positions of the columns of a kind."""
        return [k for k, own in enumerate(self.kinds) if own == kind]

    def to_array(self) -> np.ndarray:
        """Return the schema as the bytes of a string, uint8 array (n,)."""
        return np.frombuffer(json.dumps(asdict(self)).encode(), np.uint8)

    @classmethod
    def from_array(cls, array: np.ndarray) -> "Schema":
        """Read a schema from the result of :meth:`to_array`, or raise ``ValueError``.

        Examples
        --------
        >>> schema = Schema(["age"], ["numeric"], [[]], [False])
        >>> Schema.from_array(schema.to_array()) == schema
        True
        """
        try:
            schema = cls(**json.loads(array.tobytes()))
            counts = {len(schema.kinds), len(schema.categories), len(schema.missing)}
            names = schema.names if schema.names is not None else schema.kinds
            texts = all(isinstance(c, str) for known in (names, *schema.categories) for c in known)
            flags = all(isinstance(flag, bool) for flag in schema.missing)
            if counts != {len(names)} or not texts or not flags or set(schema.kinds) - set(KINDS):
                raise ValueError("names, kinds and categories do not fit together")
        except (TypeError, ValueError, RecursionError) as error:
            raise ValueError(f"the description of the columns is damaged: {error}") from None
        return schema


def read_columns(data: Any, argument: str) -> tuple[list[np.ndarray], list[str] | None]:
    """Split a table into its columns.

    Parameters
    ----------
    data : array (n, columns) or data frame
        An array of numbers, strings or objects; or any object with ``columns`` whose columns have
        ``to_numpy``, such as data frames of pandas and polars.
    argument : str
        Name of ``data`` in errors.

    Returns
    -------
    columns : list of array (n,)
    names : list of str, or None for an array
    """
    if hasattr(data, "columns") and hasattr(data, "__getitem__"):
        names = [str(name) for name in data.columns]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"{argument} has two columns called {twice[0]!r}; rename one")
        columns = [np.asarray(data[name].to_numpy()) for name in data.columns]
    else:
        if not isinstance(data, np.ndarray):
            raise TypeError(
                f"{argument} is a {type(data).__name__}, expected an array (n, columns) or a data "
                "frame"
            )
        if data.ndim != 2:
            more = "; use array.reshape(-1, 1) for a single column" if data.ndim == 1 else ""
            raise ValueError(f"{argument} has shape {data.shape}, expected (n, columns){more}")
        columns, names = list(data.T), None
    if not columns or len(columns[0]) == 0:
        raise ValueError(
            f"{argument} has {len(columns)} columns and {len(columns[0]) if columns else 0} rows; "
            "expected at least one of both"
        )
    for k, column in enumerate(columns):
        if column.dtype.kind not in "fiubOUST":
            raise TypeError(
                f"{title(argument, k, names)} has dtype {column.dtype}, expected numbers, text or "
                "objects; turn dates into numbers first"
            )
    return columns, names


def select_columns(
    data: Any, argument: str, selection: Sequence[str] | None, expected: int | None
) -> tuple[list[np.ndarray], list[str] | None]:
    """Return columns of a table, by name if it has names, and the names.

    Parameters
    ----------
    data : array (n, columns) or data frame
    argument : str
        Name of ``data`` in errors.
    selection : sequence of str, optional
        Names of the columns, in their order; for an array, the names of its columns.
    expected : int, optional
        Number of columns.
    """
    columns, names = read_columns(data, argument)
    if names is not None and selection is not None:
        for name in selection:
            if name not in names:
                have = ", ".join(names[:20])
                raise ValueError(f"{argument} has no column {name!r}; it has {have}")
        columns = [columns[names.index(name)] for name in selection]
    if expected is not None and len(columns) != expected:
        raise ValueError(f"{argument} has {len(columns)} columns, expected {expected}")
    return columns, names if selection is None else list(selection)


def read_entries(
    columns: Sequence[np.ndarray],
    titles: Sequence[str],
    schema: Schema,
    refused: Collection[str] = (),
) -> tuple[np.ndarray, np.ndarray]:
    """Read columns of known kinds.

    Parameters
    ----------
    columns : sequence of array (n,)
    titles : sequence of str
        Names of the columns in errors.
    schema : Schema
    refused : collection of {"missing", "unknown"}
        Which entries raise ``ValueError``.

    Returns
    -------
    matrix : float64 array (n, numeric)
        NaN if missing.
    codes : int64 array (n, categorical)
        Positions among the categories, MISSING or UNKNOWN.
    """
    matrix, codes = [], []
    for k, (column, what) in enumerate(zip(columns, titles, strict=True)):
        if schema.kinds[k] == "numeric":
            matrix.append(numbers(column, what))
            gaps = np.isnan(matrix[-1])
        else:
            codes.append(category_codes(column, schema.categories[k]))
            gaps = codes[-1] == MISSING
            new = codes[-1] == UNKNOWN
            if "unknown" in refused and new.any():
                row = int(np.argmax(new))
                raise ValueError(
                    f"{what} holds {column.tolist()[row]!r} in row {row}, which is not in "
                    "the training data; use unknown='zeros' or 'channel'"
                )
        if "missing" in refused and gaps.any():
            raise missing_value(f"{what}, row {int(np.argmax(gaps))},")
    n = len(columns[0])
    return join(matrix, n, np.float64), join(codes, n, np.int64)


def join(columns: list[np.ndarray], n: int, dtype: Any) -> np.ndarray:
    """Stack columns (n,) to a matrix; (n, 0) without any."""
    return np.stack(columns, axis=1) if columns else np.zeros((n, 0), dtype)


def missing_value(what: str) -> ValueError:
    """Return the error for a missing value that is refused."""
    return ValueError(
        f"{what} has a missing value; fill it in, or use missing='channel' or 'impute'"
    )


def title(argument: str, k: int, names: Sequence[str] | None) -> str:
    """Return the name of column ``k`` in errors.

    Examples
    --------
    >>> title("data", 1, ["age", "sex"]), title("data", 1, None)
    ("data: column 1 ('sex')", 'data: column 1')
    """
    return f"{argument}: column {k}" + (f" ({names[k]!r})" if names else "")


def kinds_of(columns: tuple[str, ...] | dict[str, str] | None) -> tuple[str, ...] | None:
    """Return the kinds of the columns, None if they are not given."""
    return tuple(columns.values()) if isinstance(columns, dict) else columns


def check_columns(columns: Any) -> tuple[str, ...] | dict[str, str] | None:
    """Return the kinds of columns as a tuple or a mapping, or raise an error."""
    if columns is None:
        return None
    checked: tuple[str, ...] | dict[str, str]
    if isinstance(columns, Mapping):
        checked = {str(name): kind for name, kind in columns.items()}
    elif isinstance(columns, Sequence) and not isinstance(columns, str):
        checked = tuple(columns)
    else:
        raise TypeError(
            f"columns is {columns!r}, expected a sequence of kinds, or a mapping of names to kinds"
        )
    wrong = [kind for kind in kinds_of(checked) or () if kind not in KINDS]
    if wrong or not checked:
        got = f"holds {wrong[0]!r}" if wrong else "is empty"
        raise ValueError(f"columns {got}; expected {' or '.join(map(repr, KINDS))} for each column")
    return checked
