"""The style of all ftnn figures.

Figures are made through matplotlib's object interface with the Agg backend: no display, no
global state of pyplot.
"""

import os
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..layers.atomic import replacing

COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's colours, which colour-blind readers can distinguish."""

MARKERS = "osD^vP*X"
_STYLE: Any = {
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E4E4E4",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 8.0,
    "lines.linewidth": 1.6,
    "lines.markersize": 4.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
}


def style() -> AbstractContextManager[None]:
    """Apply the style of all ftnn figures; a context manager."""
    return matplotlib.rc_context(_STYLE)


def figure(width: float, height: float) -> Figure:
    """Return an empty figure of the given size in inches, laid out without overlaps."""
    fig = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(fig)
    return fig


def whole_ticks(count: int) -> MaxNLocator:
    """Return ticks at integers, at most ``count`` intervals; a single one if there is only one."""
    return MaxNLocator(nbins=count, integer=True, min_n_ticks=1)


def save_figure(fig: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure atomically; the format follows the name, PNG at 180 dots per inch."""
    kind = Path(path).suffix.removeprefix(".") or "png"
    with replacing(path) as temporary:
        fig.savefig(temporary, format=kind, dpi=180, facecolor="white")
