"""Singular values of weights and of states across every bond."""

import os
from collections.abc import Sequence

import matplotlib
import numpy as np

from ..interpret.report import LayerRow
from .style import figure, save_figure, style, whole_ticks

_FLOOR = 1e-8  # smallest singular value drawn


def plot_spectra(report: Sequence[LayerRow], path: str | os.PathLike[str]) -> None:
    """Draw the singular values across every bond: weights above, resulting states below.

    Parameters
    ----------
    report : sequence of LayerRow
        From :func:`ftnn.interpret.layer_report`. The input and layers with a weight are drawn;
        states only if they have bonds.
    path : path
        Output file; the format follows the name.
    """
    panels = []
    for row in report:
        name = row.path if row.path == "input" else f"{row.path} {row.type}".strip()
        if row.weight_spectra:
            panels.append((f"{name}: weight", row.weight_spectra))
        entangled = any(len(values) > 1 for values in row.spectra)
        if entangled and (row.weight_spectra or row.path == "input"):
            panels.append((f"{name}: state", row.spectra))
    if not panels:
        raise ValueError("no layer has bonds: the chain has one site, there is nothing to plot")
    bonds = max(len(spectra) for _, spectra in panels)
    colors = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.9, bonds))
    columns = min(len(panels), 4)
    lines = -(-len(panels) // columns)
    with style():
        fig = figure(1.0 + 2.3 * columns, 2.6 * lines)
        axes = fig.subplots(lines, columns, squeeze=False, sharey=True)
        for axis in axes.flat[len(panels) :]:
            axis.set_visible(False)
        for axis, (title, spectra) in zip(axes.flat, panels, strict=False):
            for bond, values in enumerate(spectra):
                shown = values[values > _FLOOR]
                index = np.arange(1, len(shown) + 1)
                axis.semilogy(index, shown, "o-", ms=2.5, lw=1.0, color=colors[bond])
            axis.set(title=title, xlabel="index")
            axis.xaxis.set_major_locator(whole_ticks(6))
        for axis in axes[:, 0]:
            axis.set_ylabel("normalized singular value")
        top = matplotlib.colors.Normalize(1, max(bonds, 2) / 0.9)  # colors end at 0.9
        scale = matplotlib.cm.ScalarMappable(top, matplotlib.colormaps["viridis"])
        bar = fig.colorbar(scale, ax=axes, shrink=0.8, ticks=whole_ticks(6))
        bar.ax.set_ylim(1, max(bonds, 2))
        bar.outline.set_visible(False)
        bar.set_label("bond")
        save_figure(fig, path)
