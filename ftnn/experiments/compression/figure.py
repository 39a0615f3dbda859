"""The figure of the frontier: accuracy against parameters."""

import os
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.ticker import NullFormatter

from ...plotting.style import COLORS, MARKERS, figure, save_figure, style

CURVES = {
    "untouched": "untouched",
    "by_layer": "healed by layers",
    "healed": "healed as a whole",
}
"""Keys of a row, in the order in which they are measured, and their names."""


def plot_frontier(
    rows: Sequence[Mapping[str, Any]], dense: float, path: str | os.PathLike[str]
) -> None:
    """Plot accuracy against parameters, a curve for every step of the healing.

    Parameters
    ----------
    rows : sequence of mapping
        With ``params``, ``ratio`` and the keys of CURVES.
    dense : float
        Accuracy of the dense network, a dashed line.
    path : path
        Output file.
    """
    sizes = [row["params"] for row in rows]
    with style():
        fig = figure(5.4, 3.6)
        axis = fig.subplots()
        axis.axhline(100 * dense, color=COLORS[6], lw=1.0, ls="--", label="dense")
        for n, (key, label) in enumerate(CURVES.items()):
            values = [100 * row[key] for row in rows]
            axis.plot(sizes, values, marker=MARKERS[n], color=COLORS[n], label=label)
        axis.set(xscale="log", xlabel="parameters", ylabel="validation accuracy (%)")
        axis.xaxis.set_minor_formatter(NullFormatter())
        axis.margins(x=0.08, y=0.12)  # for the ratios, at the bottom
        for row in rows:
            axis.annotate(
                f"{row['ratio']:g}×",
                (row["params"], 0.0),
                xycoords=("data", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="center",
                fontsize=7,
                color="#666666",
            )
        fig.legend(loc="outside upper center", ncols=4)
        save_figure(fig, path)
