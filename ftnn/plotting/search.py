"""Networks of a search: score against parameters and time."""

import os
from collections.abc import Sequence
from typing import Any

from matplotlib.ticker import PercentFormatter

from ..training.score import Score
from .style import COLORS, figure, save_figure, style


def plot_search(
    rows: Sequence[Any],
    score: Score,
    path: str | os.PathLike[str],
    params: int | None = None,
) -> None:
    """Draw the score on validation data against parameters, and against the time of training.

    Parameters
    ----------
    rows : sequence of Row
        As of :class:`ftnn.experiments.search.Search`. A line joins those that none beats with as
        few parameters, or in as little time.
    score : Score
    path : path
        Output file.
    params : int, optional
        Most parameters, drawn as a line.
    """
    shown = [row for row in rows if row.score is not None]
    with style():
        fig = figure(7.0, 3.0)
        axes = fig.subplots(1, 2, sharey=True)
        quantities = (("params", "parameters"), ("seconds", "seconds of training"))
        for axis, (name, label) in zip(axes, quantities, strict=True):
            for pruned, color, text in ((True, "0.65", "pruned"), (False, COLORS[0], "trained")):
                some = [row for row in shown if row.pruned == pruned]
                if some:
                    axis.plot(
                        [getattr(row, name) for row in some], [row.score for row in some],
                        "o", markersize=4, color=color, label=text,
                    )  # fmt: skip
            xs, ys = _front(shown, name, score)
            axis.step(xs, ys, where="post", color=COLORS[1], label="best so far", zorder=0)
            if name == "params" and params is not None:
                axis.axvline(params, color="0.6", linestyle=":", linewidth=0.8, label="most")
            axis.set(xscale="log", xlabel=label)
        axes[0].set_ylabel(f"validation {score.name}")
        if score.higher_is_better:
            axes[0].yaxis.set_major_formatter(PercentFormatter(1.0))
        else:
            axes[0].set_yscale("log")
        axes[1].legend()
        save_figure(fig, path)


def _front(rows: Sequence[Any], name: str, score: Score) -> tuple[list[float], list[float]]:
    """Return the trials that ended and are better than all with a smaller quantity."""
    xs: list[float] = []
    ys: list[float] = []
    for row in sorted((row for row in rows if not row.pruned), key=lambda row: getattr(row, name)):
        if not ys or score.better(row.score, ys[-1]):
            xs.append(getattr(row, name))
            ys.append(row.score)
    return xs, ys
