"""Entanglement of the states in a network, by class and between sites."""

import os
from collections.abc import Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes

from ..interpret.report import StateRow
from .style import MARKERS, figure, save_figure, style, whole_ticks

_FLOOR = 1e-8  # smallest singular value drawn


def plot_entanglement(
    rows: Sequence[StateRow], class_names: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Plot mutual information between sites, and entropies and a spectrum by class, layer by layer.

    The spectrum is that of the middle bond. Product states are omitted if any states are entangled.

    Parameters
    ----------
    rows : sequence of StateRow
        From :func:`ftnn.interpret.report.entanglement_report`.
    class_names : sequence of str
    path : path
        Output file; the format follows the name.
    """
    rows = [row for row in rows if row.spectra]
    rows = [row for row in rows if max(s.shape[1] for s in row.spectra) > 1] or rows
    if not rows:
        raise ValueError("the chain has one site: there is no entanglement to plot")
    if any(len(row.entropies) != len(class_names) for row in rows):
        raise ValueError(
            f"there are {len(class_names)} class_names, but the entropies are of another number "
            "of classes"
        )
    colors = matplotlib.colormaps["tab10"](np.arange(len(class_names)) % 10)
    highest = max(row.mutual_information.max() for row in rows)
    with style():
        fig = figure(1.6 + 2.4 * max(len(rows), 2), 7.6)
        axes = fig.subplots(3, len(rows), squeeze=False)
        for row, above, below, lowest in zip(rows, *axes, strict=True):
            image = _matrix(above, row, highest)
            bonds = np.arange(1, len(row.spectra) + 1)
            for n, (name, color) in enumerate(zip(class_names, colors, strict=True)):
                look = {"color": color, "marker": MARKERS[n % len(MARKERS)], "label": name}
                every = max(1, len(bonds) // 6)
                below.plot(bonds, row.entropies[n], lw=1.1, ms=3.0, markevery=every, **look)
                values = row.spectra[len(bonds) // 2][n]
                values = np.where(values > _FLOOR, values, np.nan)
                lowest.semilogy(np.arange(1, len(values) + 1), values, lw=1.1, ms=3.0, **look)
            below.set_xlabel("bond")
            lowest.set_xlabel(f"singular value, bond {bonds[len(bonds) // 2]}")
            for axis in (below, lowest):
                axis.xaxis.set_major_locator(whole_ticks(6))
        bar = fig.colorbar(image, ax=axes[0], shrink=0.8)
        bar.outline.set_visible(False)
        bar.set_label("mutual information (nats)")
        top = 1.05 * max(np.nanmax(row.entropies) for row in rows)
        for below in axes[1]:
            below.set_ylim(0.0, max(top, 1e-12))
        shown = [s[s > _FLOOR] for row in rows for s in (row.spectra[len(row.spectra) // 2],)]
        least = min((s.min() for s in shown if s.size), default=0.1)
        for lowest in axes[2]:
            lowest.set_ylim(10.0 ** np.floor(np.log10(least)), 1.3)
        axes[2, 0].set_ylabel("normalized")
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
        ticks.set_major_locator(whole_ticks(6))
    return image
