"""Entanglement of the states in a network, by class and between sites."""

import os
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from ..report import StateRow
from .style import MARKERS, figure, save_figure, style


def plot_entanglement(
    rows: Sequence[StateRow], class_names: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Mutual information between sites, and entropies by class, layer by layer.

    Parameters
    ----------
    rows : sequence of StateRow
        From :func:`ftnn.report.entanglement_report`.
    class_names : sequence of str
    path : path
        File to write; the format follows the name.
    """
    if not rows or rows[0].entropies.shape[1] == 0:
        raise ValueError("the chain has one site: nothing can be entangled, nothing to plot")
    if any(len(row.entropies) != len(class_names) for row in rows):
        raise ValueError(f"there are {len(class_names)} class_names, but other entropies")
    colors = matplotlib.colormaps["tab10"](np.arange(len(class_names)) % 10)
    highest = max(row.mutual_information.max() for row in rows)
    with style():
        fig = figure(1.6 + 2.4 * max(len(rows), 2), 5.6)
        axes = fig.subplots(2, len(rows), squeeze=False)
        for row, above, below in zip(rows, *axes, strict=True):
            image = _matrix(above, row, highest)
            bonds = np.arange(1, row.entropies.shape[1] + 1)
            for n, (name, color) in enumerate(zip(class_names, colors, strict=True)):
                look = {"color": color, "marker": MARKERS[n % len(MARKERS)], "label": name}
                every = max(1, len(bonds) // 6)
                below.plot(bonds, row.entropies[n], lw=1.1, ms=3.0, markevery=every, **look)
            below.set_xlabel("bond")
            below.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True))
        bar = fig.colorbar(image, ax=axes[0], shrink=0.8)
        bar.outline.set_visible(False)
        bar.set_label("mutual information (nats)")
        top = 1.05 * max(np.nanmax(row.entropies) for row in rows)
        for below in axes[1]:
            below.set_ylim(0.0, max(top, 1e-12))
        axes[1, 0].set_ylabel("entropy (nats)")
        handles = axes[1, 0].get_legend_handles_labels()
        fig.legend(*handles, loc="outside lower center", ncols=min(len(class_names), 5))
        save_figure(fig, path)


def _matrix(axis: Axes, row: StateRow, highest: float) -> matplotlib.image.AxesImage:
    sites = len(row.mutual_information)
    shown = np.where(np.eye(sites, dtype=bool), np.nan, row.mutual_information)
    end = sites + 0.5
    image = axis.imshow(
        shown, cmap="magma_r", vmin=0.0, vmax=max(highest, 1e-12), extent=(0.5, end, end, 0.5)
    )
    axis.set_title(row.name)
    axis.set_xlabel("site")
    axis.grid(visible=False)
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_locator(MaxNLocator(nbins=6, integer=True))
    return image
