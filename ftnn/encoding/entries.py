"""Entries of a table: numbers, categories, missing values; what text stands for."""

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

MISSING_WORDS = frozenset({"", "?", "na", "n/a", "nan", "null", "none"})
"""Strings that stand for a missing value, in lower case and stripped."""

MISSING, UNKNOWN = -1, -2
"""Codes of missing values, and of unknown categories."""

DECIMAL_COMMA = re.compile(r"[+-]?(\d+,\d*|,\d+)(e[+-]?\d+)?", re.I)
DATE = re.compile(r"(\d{4}([-/.])\d{1,2}\2\d{1,2}|\d{1,2}([-/.])\d{1,2}\3\d{4})([T ]\s*\d.*)?")
"""Year, month, day or day, month, year (in any order), perhaps with a time."""

MANY = 20
"""Fewer categories are never too many."""


def is_missing(value: Any) -> bool:
    """Return whether an entry of a table stands for a missing value.

    Examples
    --------
    >>> [is_missing(value) for value in (None, float("nan"), " NA ", "", "?", 0, "no")]
    [True, True, True, True, True, False, False]
    """
    if value is None or type(value).__name__ in ("NAType", "NaTType"):  # of pandas
        return True
    if isinstance(value, (str, bytes)):
        return as_text(value).lower() in MISSING_WORDS
    return bool(value != value)


def as_text(value: Any) -> str:
    """Return the name of a category: 1, 1.0 and "1" are the same, and so are " a" and "a".

    Examples
    --------
    >>> as_text(1.0), as_text(np.int64(1)), as_text(" a "), as_text(True), as_text(0.5)
    ('1', '1', 'a', 'True', '0.5')
    """
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        value = int(value)
    return str(value).strip()


def guess_kind(
    column: np.ndarray,
    what: str,
    comma: str = "replace the commas by points",
    otherwise: str = "give its kind as 'category'",
) -> str:
    """Return "numeric" if every entry that is not missing can be parsed as a number.

    Parameters
    ----------
    column : array (n,)
    what : str
        Name of the column in messages.
    comma : str
        Remedy for numbers with a decimal comma.
    otherwise : str
        Remedy of last resort.

    Raises
    ------
    ValueError
        If all entries are dates, or numbers with a decimal comma: neither are categories.

    Warns
    -----
    UserWarning
        If there are more than 20 categories, and more than half as many as entries.

    Examples
    --------
    >>> guess_kind(np.array(["1.5", "?", "2"]), "column 0")
    'numeric'
    >>> guess_kind(np.array([1, "red", None], object), "column 1")
    'category'
    >>> guess_kind(np.array(["3,14", ""]), "column 2")
    Traceback (most recent call last):
        ...
    ValueError: column 2 holds '3,14', a decimal comma; replace the commas by points, or ...
    """
    if column.dtype.kind in "fiub" or all(_number(value) is not None for value in column):
        return "numeric"
    texts = [as_text(value) for value in column if not is_missing(value)]
    if all(DATE.fullmatch(text) for text in texts):
        raise ValueError(
            f"{what} holds dates such as {texts[0]!r}; turn them into numbers, such as days since "
            f"the first one, or {otherwise}"
        )
    commas = [text for text in texts if with_point(text) != text]
    if commas and all(_number(with_point(text)) is not None for text in texts):
        raise ValueError(f"{what} holds {commas[0]!r}, a decimal comma; {comma}, or {otherwise}")
    count = len(set(texts))
    if count > max(MANY, len(texts) / 2):
        warnings.warn(
            f"{what} has {count} categories in {len(texts)} rows, such as {texts[0]!r}; turn it "
            f"into numbers, or {otherwise}",
            stacklevel=3,
        )
    return "category"


def with_point(text: str) -> str:
    """Return a number with a decimal comma as one with a point, other text unchanged.

    Examples
    --------
    >>> with_point("-3,14"), with_point("1,2e3"), with_point("dark, blue"), with_point("1,2,3")
    ('-3.14', '1.2e3', 'dark, blue', '1,2,3')
    """
    return text.replace(",", ".") if DECIMAL_COMMA.fullmatch(text) else text


def numbers(
    column: np.ndarray, what: str, lines: Sequence[int] | np.ndarray | None = None
) -> np.ndarray:
    """Return a column as float64 array (n,) with NaN for missing values, or raise.

    Parameters
    ----------
    column : array (n,)
    what : str
        Name of the column in errors.
    lines : sequence of int, optional
        Lines of a file that the rows stand in; errors name them in place of the rows.
    """

    def place(row: int) -> str:
        return f"row {row}" if lines is None else f"line {lines[row]}"

    if column.dtype.kind in "fiub":
        values = column.astype(np.float64)
    else:
        parsed = [_number(value) for value in column]
        if None in parsed:
            row = parsed.index(None)
            raise ValueError(
                f"{what} holds {column.tolist()[row]!r} in {place(row)}, expected numbers; give "
                "its kind as 'category', or clean it"
            )
        values = np.array(parsed, dtype=np.float64)
    if np.isinf(values).any():
        row = int(np.argmax(np.isinf(values)))
        raise ValueError(
            f"{what} is infinite in {place(row)}; clip it, or make it NaN where it is missing"
        )
    return values


def categories(column: np.ndarray) -> list[str | None]:
    """Return the name of the category in every row, None where it is missing."""
    return [None if is_missing(value) else as_text(value) for value in column]


def category_codes(column: np.ndarray, known: Sequence[str]) -> np.ndarray:
    """Return positions (n,) among the known categories, MISSING or UNKNOWN.

    Examples
    --------
    >>> category_codes(np.array(["b", "", "c", "a"]), ["a", "b"]).tolist()
    [1, -1, -2, 0]
    """
    places: dict[str | None, int] = {name: place for place, name in enumerate(known)}
    places[None] = MISSING
    return np.array([places.get(name, UNKNOWN) for name in categories(column)], dtype=np.int64)


def most_frequent(column: np.ndarray, known: Sequence[str]) -> int:
    """Return the position of the most frequent category; UNKNOWN if there is none."""
    codes = category_codes(column, known)
    counts = np.bincount(codes[codes >= 0], minlength=1)
    return int(np.argmax(counts)) if counts.any() else UNKNOWN


def _number(value: Any) -> float | None:
    """Parse a number, NaN for a missing one; return None if it is not a number."""
    if is_missing(value):
        return np.nan
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
