"""Display of a run: set-up and result, as tables 80 columns wide."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from ..training.options import flat
from ..training.score import ACCURACY, ERROR, Score

if TYPE_CHECKING:
    from .search import Row
    from .setup import Setup


def console() -> Console:
    """Return a console on standard output without highlighting of numbers."""
    return Console(highlight=False)


def setup_table(setup: "Setup") -> Table:
    """Show the resolved options of a stage of a run."""
    title = f"ftnn train {setup.experiment.name}"
    table = Table(title=title, box=None, title_justify="left", show_header=False)
    for _ in range(2):
        table.add_column(style="cyan", no_wrap=True)
        table.add_column(overflow="fold")
    unused = setup.experiment.options.unused
    options = flat(setup.options).items()
    cells = [(key, _plain(value)) for key, value in options if key not in unused]
    half = -(-len(cells) // 2)
    cells += [("", "")] * (2 * half - len(cells))
    for left, right in zip(cells[:half], cells[half:], strict=True):
        table.add_row(*left, *right)
    return table


def setup_line(setup: "Setup") -> str:
    """Show the numbers of samples and parameters of a run."""
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
    what = {ACCURACY: "mean cross entropy", ERROR: "mean squared relative error"}
    if not math.isclose(summary["test_loss"], summary[f"test_{score.name}"], rel_tol=1e-4):
        table.add_row("test loss", f"{summary['test_loss']:.4g}", what.get(score, "mean square"))
    value = summary.get(f"val_{score.name}")
    if value is not None:
        best = f"best, epoch {summary['best_epoch']} of {summary['epochs']}"
        table.add_row(f"validation {score.name}", format(value, score.spec), best)
    for name, text in summary.get("remarks", {}).items():
        table.add_row(name, *text)
    table.add_row("parameters", f"{summary['num_params']:,}", "")
    table.add_row("compression", ratio(summary["log10_compression"]), "against dense layers")
    earlier = summary.get("earlier_seconds", 0.0)
    share = f", {earlier:.1f} of them before the last stage" if earlier else ""
    seconds = f"{summary['train_seconds'] + earlier:.1f} s"
    table.add_row("training time", seconds, f"on {summary['device']}{share}")
    if summary["epochs"]:
        speed = f"{summary['samples_per_s']:,.0f} samples/s"
        table.add_row("speed", speed, "median over the epochs")
    return table


def ratio(log10: float) -> str:
    """Format a ratio given its decimal logarithm.

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


def _plain(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def search_table(rows: "Sequence[Row]", score: Score) -> Table:
    """Show the trials of a search, in the given order."""
    table = Table(box=box.SIMPLE_HEAD)
    names = list(dict.fromkeys(name for row in rows for name in row.values))
    heads = [name.replace("_", " ") for name in names]
    for head in (f"val {score.short}", "params", "s", *heads, ""):
        table.add_column(head, justify="right" if head else "left")
    for row in rows:
        result = "diverged" if row.score is None else format(row.score, score.spec)
        own = [str(row.values.get(name, "–")) for name in names]
        remark = f"pruned after {row.epochs} epochs" if row.pruned else "front" if row.front else ""
        table.add_row(result, f"{row.params:,}", f"{row.seconds:.0f}", *own, remark)
    return table
