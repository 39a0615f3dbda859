"""The trained functions of a KAN, as pictures."""

import os

import numpy as np
from matplotlib.collections import LineCollection

from ..arrays.backend import as_like, to_numpy
from ..nonlinear import KAN
from .style import COLORS, figure, save_figure, style


def plot_functions(
    layer: KAN, path: str | os.PathLike[str], site: int = 0, extent: float = 3.0
) -> None:
    """Draw the functions of one site of a KAN: a panel for each pair of physical indices.

    Parameters
    ----------
    layer : KAN
    path : path
        Output file; the format follows the name (PNG, SVG, PDF).
    site : int
    extent : float
        Arguments go from ``-extent`` to ``extent``, in units of the scaled core entries, whose
        mean square is 1 per physical entry.

    Notes
    -----
    Row q and column p hold ``phi_qp``, the contribution of physical entry p to entry q of the
    output. The dashed line is its linear part. All panels have the same scales, given in the title.
    """
    if not isinstance(layer, KAN):
        raise TypeError(f"layer is a {type(layer).__name__}; only a KAN has functions to draw")
    sites = len(layer.in_dims)
    if not 0 <= site < sites:
        raise ValueError(f"site is {site}; the layer has sites 0 to {sites - 1}")
    if not extent > 0.0:
        raise ValueError(f"extent is {extent!r}, expected a positive number")
    linear = layer.params[f"linear.{0 if layer.share else site}"]
    u = np.linspace(-extent, extent, 201)
    values = to_numpy(layer.functions(as_like(u, linear), site))  # (201, p, q)
    slopes = to_numpy(linear)
    p, q = slopes.shape
    reach = max(np.abs(values).max(), 1e-12)
    x = 0.92 * u / (2.0 * extent)  # of one panel, around its middle
    curves = _panels(x, 0.46 * values / reach)
    lines = _panels(x, 0.46 * np.clip(u[:, None, None] * slopes / reach, -1.0, 1.0))
    with style():
        fig = figure(max(3.6, 1.0 + 0.55 * p), 0.9 + 0.45 * q)
        axis = fig.subplots()
        axis.grid(visible=False)
        axis.hlines(range(q), -0.5, p - 0.5, color="#DDDDDD", lw=0.5)
        axis.vlines(range(p), -0.5, q - 0.5, color="#DDDDDD", lw=0.5)
        axis.hlines(np.arange(1, q) - 0.5, -0.5, p - 0.5, color="#999999", lw=0.6)
        axis.vlines(np.arange(1, p) - 0.5, -0.5, q - 0.5, color="#999999", lw=0.6)
        axis.add_collection(LineCollection(lines, colors=COLORS[1], linewidths=0.9, ls="--"))
        axis.add_collection(LineCollection(curves, colors=COLORS[0], linewidths=1.3))
        axis.set(xlim=(-0.5, p - 0.5), ylim=(q - 0.5, -0.5), xlabel="from p", ylabel="to q")
        axis.set_xticks(range(p))
        axis.set_yticks(range(q))
        axis.set_title(
            f"Site {site}: φ(u), dashed its linear part\n"
            f"|u| ≤ {extent:g}, panels are ±{reach:.2g} high",
            fontsize=8.0,
        )
        save_figure(fig, path)


def _panels(x: np.ndarray, values: np.ndarray) -> list[np.ndarray]:
    """Shift curves (n, p, q) into panels around the points (p, q), with q pointing down."""
    return [
        np.stack([column + x, row - values[:, column, row]], axis=1)
        for column in range(values.shape[1])
        for row in range(values.shape[2])
    ]
