"""Solutions of an equation: inputs, targets and outputs."""

import os

import numpy as np

from .style import COLORS, figure, save_figure, style

FLAT = 0.2
"""Share of the range of inputs below which targets are drawn on a scale of their own."""


def plot_solutions(
    inputs: np.ndarray,
    targets: np.ndarray,
    outputs: np.ndarray,
    errors: np.ndarray,
    title: str,
    path: str | os.PathLike[str],
    labels: tuple[str, str] = ("input, $u(x, 0)$", "$u(x, T)$"),
) -> None:
    """Draw a few functions, and below them the differences of outputs and targets.

    Where targets vary by much less than inputs they are drawn once more, on a scale of their own.

    Parameters
    ----------
    inputs, targets, outputs : array (n, points)
        Values on an even grid of [0, 1).
    errors : array (n,)
        Relative errors, shown in the titles.
    title : str
        Title of the figure.
    path : path
        Output file; the format follows the name.
    labels : tuple of str
        What inputs and targets are called.
    """
    if not inputs.shape == targets.shape == outputs.shape or len(errors) != len(inputs):
        raise ValueError(
            f"inputs, targets and outputs have shapes {inputs.shape}, {targets.shape} and "
            f"{outputs.shape}, and there are {len(errors)} errors; expected the same number"
        )
    n, points = inputs.shape
    x = np.arange(points) / points
    with style():
        flat = np.ptp(targets, axis=1).max() < FLAT * np.ptp(inputs, axis=1).max()
        rows = (1.4, 1, 1) if flat else (2, 1)
        fig = figure(0.4 + 3.0 * n, 4.0 + flat)
        axes = fig.subplots(len(rows), n, sharex=True, squeeze=False, height_ratios=rows)
        for k in range(n):
            above, *close, below = axes[:, k]
            above.plot(x, inputs[k], color="#AAAAAA", label=labels[0])
            for axis in (above, *close):
                axis.plot(x, targets[k], color=COLORS[0], lw=2.6, alpha=0.5, label=labels[1])
                axis.plot(x, outputs[k], color=COLORS[1], lw=1.0, label="network")
            above.set_title(f"relative error {errors[k]:.1e}")
            below.plot(x, outputs[k] - targets[k], color=COLORS[1], lw=1.0)
            below.set(xlabel="x", xlim=(0, 1))
            below.ticklabel_format(axis="y", scilimits=(-2, 2))
        axes[0, 0].set_ylabel("u")
        if flat:
            axes[1, 0].set_ylabel("u, closer")
        axes[-1, 0].set_ylabel("difference")
        fig.suptitle(title, fontsize=10)
        fig.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
        save_figure(fig, path)
