"""Evolution of a state in time: a local observable and the entanglement entropy."""

import os

import numpy as np
from matplotlib.ticker import MaxNLocator

from .style import COLORS, figure, save_figure, style


def plot_dynamics(
    times: np.ndarray,
    maps: dict[str, np.ndarray],
    entropies: dict[str, np.ndarray],
    trained: float,
    path: str | os.PathLike[str],
    observable: str = "$\\langle Z_k \\rangle$",
) -> None:
    """Draw a local observable over sites and time, exact and learned, and entropies over time.

    Parameters
    ----------
    times : array (n,)
        In units of 1/J, increasing.
    maps : dict of str to array (n, sites)
        The observable, "exact" and "learned".
    entropies : dict of str to array (n,)
        Entanglement entropy of the middle cut in nats, likewise.
    trained : float
        Time up to which the network was trained; marked by a line.
    path : path
        Output file; the format follows the name.
    observable : str
        Label of the observable.
    """
    exact, learned = maps["exact"], maps["learned"]
    if exact.shape != learned.shape or exact.shape[0] != len(times):
        raise ValueError(
            f"exact and learned have shapes {exact.shape} and {learned.shape}, expected one row "
            f"for each of {len(times)} times"
        )
    with style():
        fig = figure(10.2, 2.9)
        axes = fig.subplots(1, 4, width_ratios=(1, 1, 1, 1.25))
        sites = np.arange(1, exact.shape[1] + 1)
        error = np.abs(learned - exact)
        panels = (
            ("exact", exact, "RdBu_r", (-1.0, 1.0), observable),
            ("learned", learned, "RdBu_r", (-1.0, 1.0), observable),
            ("difference", error, "viridis", (0.0, max(float(error.max()), 1e-6)), "modulus"),
        )
        for ax, (title, values, colors, (low, high), label) in zip(axes, panels, strict=False):
            mesh = ax.pcolormesh(
                sites, times, values, cmap=colors, vmin=low, vmax=high, shading="nearest"
            )
            ax.set(title=title, xlabel="site")
            ticks = MaxNLocator(4)
            fig.colorbar(mesh, ax=ax, location="bottom", label=label, aspect=30, ticks=ticks)
            if times[-1] > trained:
                ax.axhline(trained, color="black", lw=0.8, ls="--")
        axes[0].set_ylabel("time $t$ (1/J)")
        last = axes[3]
        last.plot(times, entropies["exact"], color=COLORS[0], lw=2.6, alpha=0.5, label="exact")
        found = entropies["learned"]
        last.plot(times, found, color=COLORS[1], lw=1.0, marker="o", ms=3, label="learned")
        if times[-1] > trained:
            last.axvline(trained, color="black", lw=0.8, ls="--")
        last.set(title="entropy, middle cut (nats)", xlabel="time $t$ (1/J)")
        last.legend(fontsize=7)
        save_figure(fig, path)
