"""Tables of text, read from CSV files."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...encoding.entries import guess_kind, numbers, with_point

DELIMITERS = ",;\t"


@dataclass(frozen=True, eq=False)
class Table:
    """A table of text with named columns.

    Attributes
    ----------
    path : Path
        Path of the file, for errors.
    names : list of str
    cells : array (n, columns) of object
        Cells as written in the file.
    lines : int array (n,)
        Line in which each row ends, counted from 1.
    """

    path: Path
    names: list[str]
    cells: np.ndarray
    lines: np.ndarray

    def column(self, name: str, argument: str) -> np.ndarray:
        """Return the entries (n,) of a column, or raise an error that lists the columns."""
        if name not in self.names:
            raise ValueError(
                f"{argument} is {name!r}, but {self.path} has no such column; it has "
                f"{_listed(self.names)}"
            )
        return self.cells[:, self.names.index(name)]

    def select(self, names: Sequence[str]) -> np.ndarray:
        """Return some columns (n, len(names)), in this order."""
        for name in names:
            if name not in self.names:
                raise ValueError(
                    f"{self.path} has no column {name!r}, which the model was trained on; it has "
                    f"{_listed(self.names)}"
                )
        return self.cells[:, [self.names.index(name) for name in names]]

    def kind(self, name: str) -> str:
        """Return the kind of a column, guessed from its entries."""
        return guess_kind(
            self.cells[:, self.names.index(name)],
            f"{self.path}: column {name!r}",
            comma="give --decimal ,",
            otherwise="drop the column",
        )

    def check_numbers(self, names: Sequence[str], kinds: Sequence[str]) -> None:
        """Raise ``ValueError`` for infinite numbers, and for text in a column of numbers."""
        for name, kind in zip(names, kinds, strict=True):
            if kind == "numeric":
                column = self.cells[:, self.names.index(name)]
                numbers(column, f"{self.path}: column {name!r}", self.lines)


def read_csv(path: str | Path, decimal: str = ".") -> Table:
    """Read a CSV file with a header, separated by commas, semicolons or tabs.

    Blank lines are skipped; the separator is the most frequent of the three in the header. With a
    comma as ``decimal``, numbers with a comma become those with a point.

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    ValueError
        If it is empty, has no header or no rows, two columns share a name, a row and the header
        differ in their number of entries, or a number has a point where ``decimal`` is a comma; the
        message names the line.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"--data {path}: is a folder, expected a CSV file")
    if not path.is_file():
        raise FileNotFoundError(f"--data {path}: there is no such file")
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not a text file in UTF-8 ({error}); convert it") from None
    first = next((line for line in text.splitlines() if line.strip()), None)
    if first is None:
        raise ValueError(f"{path}: is empty; expected a header and rows")
    delimiter = max(DELIMITERS, key=first.count)
    reader = csv.reader(text.splitlines(keepends=True), delimiter=delimiter, skipinitialspace=True)
    rows: list[tuple[int, list[str]]] = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append((reader.line_num, [cell.strip() for cell in row]))
    except csv.Error as error:
        raise ValueError(f"{path}, line {reader.line_num}: {error}") from None
    names = rows[0][1]
    _check_header(path, names)
    if len(rows) == 1:
        raise ValueError(f"{path}: has a header, but no rows")
    for line, row in rows[1:]:
        if len(row) != len(names):
            raise ValueError(
                f"{path}, line {line}: has {len(row)} entries, but the header {len(names)}; quote "
                "entries that hold the separator"
            )
    if decimal == ",":
        rows[1:] = [(line, _with_points(row, f"{path}, line {line}")) for line, row in rows[1:]]
    cells = np.array([row for _, row in rows[1:]], dtype=object)
    return Table(path, names, cells, np.array([line for line, _ in rows[1:]]))


def _with_points(row: list[str], where: str) -> list[str]:
    """Return the cells of a row with points for decimal commas."""
    for cell in row:
        if "." in cell and _is_number(cell):
            raise ValueError(
                f"{where}: holds {cell!r}, a number with a point, but --decimal is a comma; leave "
                "it out, or write numbers without points"
            )
    return [with_point(cell) for cell in row]


def _check_header(path: Path, names: list[str]) -> None:
    if all(_is_number(name) for name in names):
        raise ValueError(f"{path}: has no header, its first line is numbers; put names above them")
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"{path}: two columns are called {twice[0]!r}; rename one")


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
