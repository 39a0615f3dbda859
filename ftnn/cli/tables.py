"""Tables of the layers of a network, and of its states, 80 columns wide."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from rich import box
from rich.table import Table

from ..experiments.display import ratio
from ..interpret.error import ROUNDING
from ..interpret.report import LayerRow, StateRow, log10_compression


def layer_table(rows: Sequence[LayerRow]) -> Table:
    """Tabulate dimensions, bonds, parameters, compression and truncation error by layer."""
    table = _plain_table("Layers", padding=(0, 1, 0, 0))
    table.add_column("layer", style="cyan", no_wrap=True)
    table.add_column("dims", overflow="fold")
    for name in ("D", "χ", "parameters", "compression", "trunc. error"):
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        same = row.in_dims == row.out_dims
        into = dims(row.out_dims) if row.bonds or len(row.in_dims) == 1 else str(row.out_dims[0])
        error = row.truncation_error
        compression = row.log10_compression
        table.add_row(
            label(row),
            dims(row.in_dims) if same else f"{dims(row.in_dims)} → {into}",
            _largest(row.weight_bonds),
            _largest(row.bonds),
            f"{row.params:,}" if row.params else "–",
            "–" if compression is None else ratio(compression),
            "–" if error is None else f"{error:.2e}" if error > ROUNDING else "0",
        )
    table.add_section()
    total = sum(row.params for row in rows)
    table.add_row("all", "", "", "", f"{total:,}", ratio(log10_compression(rows)), "")
    return table


def entropy_table(rows: Sequence[LayerRow]) -> Table:
    """Tabulate the entanglement entropy across every bond; skip layers that do not change it."""
    table = _plain_table("Entanglement entropy per bond (nats)")
    table.add_column("layer", style="cyan", no_wrap=True)
    table.add_column("of", no_wrap=True)
    table.add_column("bond 1, 2, …", overflow="fold")
    before = np.zeros(0)
    for row in rows:
        if row.weight_entropies.size:
            table.add_row(label(row), "weight", _numbers(row.weight_entropies))
        changed = row.entropies.shape != before.shape or not np.allclose(row.entropies, before)
        if row.entropies.size and changed:
            table.add_row(label(row), "state", _numbers(row.entropies))
            before = row.entropies
    return table


def class_table(rows: Sequence[StateRow], class_names: Sequence[str]) -> Table:
    """Tabulate the largest entanglement entropy of the states of every class, by layer."""
    table = _plain_table("Entanglement entropy by class (nats, at the bond where it is largest)")
    table.add_column("class", style="cyan", no_wrap=True)
    for row in rows:
        table.add_column(row.name, justify="right", overflow="fold")
    for n, name in enumerate(class_names):
        table.add_row(name, *(f"{max(row.entropies[n], default=0.0):.3f}" for row in rows))
    return table


def pairs_table(rows: Sequence[StateRow], count: int = 3) -> Table:
    """Tabulate the pairs of sites with the most mutual information, by layer."""
    table = _plain_table("Mutual information between sites (nats)")
    table.add_column("layer", style="cyan", no_wrap=True)
    table.add_column("largest", overflow="fold")
    for row in rows:
        information = np.triu(row.mutual_information, 1)
        order = np.argsort(information, axis=None)[::-1][:count]
        pairs = [(*np.unravel_index(place, information.shape),) for place in order]
        words = [
            f"{i + 1}-{j + 1} {information[i, j]:.2g}" for i, j in pairs if information[i, j] > 1e-6
        ]
        table.add_row(row.name, "  ".join(words) or "none")
    return table


def label(row: LayerRow) -> str:
    """Return the name of a layer in a table: path and type."""
    return row.path if row.path == "input" else f"{row.path} {row.type}".strip()


def dims(values: Sequence[int]) -> str:
    """Return physical dimensions in short form.

    Examples
    --------
    >>> dims((4, 4, 4)), dims((2, 3)), dims((2, 3, 4, 5, 6, 7))
    ('4^3', '2·3', '2…7 (6)')
    """
    if len(set(values)) == 1:
        return f"{values[0]}^{len(values)}" if len(values) > 1 else str(values[0])
    if len(values) <= 4:
        return "·".join(str(value) for value in values)
    return f"{min(values)}…{max(values)} ({len(values)})"


def _largest(bonds: Sequence[int]) -> str:
    return str(max(bonds)) if bonds else "–"


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def _plain_table(title: str, **options: Any) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, **options)
