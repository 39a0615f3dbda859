"""What the command line prints: set-up, summary and layers, as tables 80 columns wide."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.table import Table

from ..interpret.report import LayerRow, StateRow, log10_compression
from ..training.score import ACCURACY, Score

if TYPE_CHECKING:
    from ..experiments.run import Setup


_NOISE = 1e-6  # truncation errors below this are rounding, see ftnn.interpret.trace


def setup_table(setup: "Setup") -> Table:
    """Show the resolved configuration of a run."""
    title = f"ftnn train {setup.experiment.name}"
    table = Table(title=title, box=None, title_justify="left", show_header=False)
    for _ in range(2):
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(overflow="fold")
    cells = [
        (key, _plain(value))
        for key, value in setup.config.to_dict().items()
        if key not in setup.experiment.unused
    ]
    half = -(-len(cells) // 2)
    cells += [("", "")] * (2 * half - len(cells))
    for left, right in zip(cells[:half], cells[half:], strict=True):
        table.add_row(*left, *right)
    return table


def setup_line(setup: "Setup") -> str:
    """Tell how much data and how many parameters a run has."""
    train, val, test = (f"{setup.data.size(part):,}" for part in ("train", "val", "test"))
    return (
        f"{train} training, {val} validation, {test} test {setup.experiment.samples}; "
        f"{setup.model.num_params():,} parameters"
    )


def summary_table(summary: Mapping[str, Any], score: Score, samples: str) -> Table:
    """Show the result of a training, from ``summary.json``."""
    table = Table(title="Result", box=box.SIMPLE_HEAD, title_justify="left", show_header=False)
    table.add_column(style="cyan")
    table.add_column(justify="right", style="bold")
    table.add_column(style="dim")
    test = f"of {summary['test_samples']} {samples}, seen once"
    table.add_row(f"test {score.name}", format(summary[f"test_{score.name}"], score.spec), test)
    what = "mean cross entropy" if score == ACCURACY else "mean squared relative error"
    table.add_row("test loss", f"{summary['test_loss']:.4g}", what)
    value = summary.get(f"val_{score.name}")
    if value is not None:
        best = f"best, epoch {summary['best_epoch']} of {summary['epochs']}"
        table.add_row(f"validation {score.name}", format(value, score.spec), best)
    for name, text in summary.get("remarks", {}).items():
        table.add_row(name, *text)
    table.add_row("parameters", f"{summary['num_params']:,}", "")
    table.add_row("compression", ratio(summary["log10_compression"]), "against dense layers")
    first = summary.get("first_seconds", 0.0)
    share = f", {first:.1f} of them in the first stage" if first else ""
    seconds = f"{summary['train_seconds'] + first:.1f} s"
    table.add_row("training time", seconds, f"on {summary['device']}{share}")
    table.add_row("speed", f"{summary['samples_per_s']:,.0f} samples/s", "median over the epochs")
    return table


def layer_table(rows: Sequence[LayerRow]) -> Table:
    """Dimensions, bonds, parameters, compression and truncation error by layer."""
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
            "–" if error is None else f"{error:.2e}" if error > _NOISE else "0",
        )
    table.add_section()
    total = sum(row.params for row in rows)
    table.add_row("all", "", "", "", f"{total:,}", ratio(log10_compression(rows)), "")
    return table


def entropy_table(rows: Sequence[LayerRow]) -> Table:
    """Entanglement entropy across every bond; states that a layer leaves as they are only once."""
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
    """Entanglement entropy of the states of every class, largest over the bonds, by layer."""
    table = _plain_table("Entanglement entropy by class (nats, at the bond where it is largest)")
    table.add_column("class", style="cyan", no_wrap=True)
    for row in rows:
        table.add_column(row.name, justify="right", overflow="fold")
    for n, name in enumerate(class_names):
        table.add_row(name, *(f"{max(row.entropies[n], default=0.0):.3f}" for row in rows))
    return table


def pairs_table(rows: Sequence[StateRow], count: int = 3) -> Table:
    """Pairs of sites that hold the most information about each other, by layer."""
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
    """Name of a layer in a table: path and type."""
    return row.path if row.path == "input" else f"{row.path} {row.type}".strip()


def dims(values: Sequence[int]) -> str:
    """Physical dimensions, short.

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


def ratio(log10: float) -> str:
    """Write a ratio given its decimal logarithm.

    Examples
    --------
    >>> ratio(0.5), ratio(3.0), ratio(30.2)
    ('3.2×', '1,000×', '1.6e30×')
    """
    if log10 < 1:
        return f"{10**log10:.1f}×"
    if log10 < 6:
        return f"{10**log10:,.0f}×"
    exponent = int(np.floor(log10))
    return f"{10 ** (log10 - exponent):.1f}e{exponent}×"


def _largest(bonds: Sequence[int]) -> str:
    return str(max(bonds)) if bonds else "–"


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.2f}" for value in values)


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _plain_table(title: str, **options: Any) -> Table:
    return Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False, **options)
