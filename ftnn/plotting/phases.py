"""Phase diagrams: quantities over a plane of two couplings, with known boundaries."""

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .style import figure, save_figure, style


@dataclass(frozen=True, eq=False)
class Panel:
    """One map of a phase diagram.

    Attributes
    ----------
    title, label : str
        Title of the map, and label of its colour bar.
    values : array (len(x), len(y))
    limits : (low, high)
        Values at the ends of the colour scale.
    level : float, optional
        Value along which a thin line is drawn.
    """

    title: str
    label: str
    values: np.ndarray
    limits: tuple[float, float] = (0.0, 1.0)
    level: float | None = None


def plot_phases(
    panels: Sequence[Panel],
    x: np.ndarray,
    y: np.ndarray,
    curves: Sequence[tuple[np.ndarray, np.ndarray]],
    trained: np.ndarray,
    path: str | os.PathLike[str],
    names: tuple[str, str] = ("$h_1/J$", "$h_2/J$"),
) -> None:
    """Draw maps over the plane of two couplings.

    Parameters
    ----------
    panels : sequence of Panel
    x, y : array
        Couplings of the grid, evenly spaced.
    curves : sequence of (x, y)
        Known boundaries.
    trained : array (n, 2)
        Training points.
    path : path
        Output file; the format follows the name.
    names : (str, str)
        Names of the couplings.
    """
    if not panels:
        raise ValueError("panels is empty; there is nothing to plot")
    for panel in panels:
        if panel.values.shape != (len(x), len(y)):
            raise ValueError(
                f"panel {panel.title!r} has shape {panel.values.shape}, expected "
                f"({len(x)}, {len(y)})"
            )
    dx, dy = (0.5 * (v[1] - v[0]) for v in (x, y))
    extent = (x[0] - dx, x[-1] + dx, y[0] - dy, y[-1] + dy)
    with style():
        fig = figure(0.4 + 3.5 * len(panels), 4.0)
        axes = fig.subplots(1, len(panels), squeeze=False, sharey=True)[0]
        for axis, panel in zip(axes, panels, strict=True):
            image = axis.imshow(
                panel.values.T,
                origin="lower",
                aspect="auto",
                cmap="viridis",
                extent=extent,
                vmin=panel.limits[0],
                vmax=panel.limits[1],
            )
            if panel.level is not None and np.ptp(panel.values) > 0:
                axis.contour(x, y, panel.values.T, [panel.level], colors="white", linewidths=0.8)
            for n, (cx, cy) in enumerate(curves):
                label = None if n else "known boundary"
                axis.plot(cx, cy, "D-", color="#D55E00", ms=3.5, lw=1.2, label=label)
            axis.plot(
                *trained.T, ".", color="white", mec="black", mew=0.4, ms=5.0, label="trained on"
            )
            axis.set(xlim=extent[:2], ylim=extent[2:], xlabel=names[0], title=panel.title)
            axis.grid(visible=False)
            bar = fig.colorbar(image, ax=axis, shrink=0.85)
            bar.outline.set_visible(False)
            bar.set_label(panel.label)
        axes[0].set_ylabel(names[1])
        fig.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        save_figure(fig, path)
