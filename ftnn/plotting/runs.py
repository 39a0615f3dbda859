"""Figures of a run: learning curves, confusion matrix, bonds."""

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter, PercentFormatter

from ..interpret.error import ROUNDING
from ..interpret.report import LayerRow
from ..training.score import ACCURACY, Score
from .style import COLORS, MARKERS, figure, save_figure, style, whole_ticks

_FLOOR = 1e-8  # smallest singular value drawn


def plot_curves(
    metrics: Sequence[Mapping[str, Any]],
    path: str | os.PathLike[str],
    score: Score = ACCURACY,
) -> None:
    """Plot loss, score, truncation error and entanglement by epoch.

    Parameters
    ----------
    metrics : sequence of mapping
        One per epoch, as in ``metrics.jsonl``: epoch, train_loss, val_loss, train_accuracy,
        val_accuracy, and truncation_error and entropies by layer; missing or None entries are
        omitted, as are layers whose truncation errors are all rounding. The largest entropy over
        all bonds is drawn, and a line where the model has grown (growth).
    path : path
        Output file.
    score : Score
        Format and name of the score. Errors, and their losses, have a logarithmic scale.
    """
    if not metrics:
        raise ValueError("metrics is empty; there is nothing to plot before the first epoch")
    by_layer = [
        (key, title)
        for key, title in (
            ("truncation_error", "Relative truncation error"),
            ("entropies", "Largest entropy (nats)"),
        )
        if any(_layers(metrics, key))
    ]
    with style():
        fig = figure(6.6 + 2.8 * len(by_layer), 3.0)
        axes = fig.subplots(1, 2 + len(by_layer), squeeze=False)[0]
        for axis, quantity in zip(axes, ("loss", score.name), strict=False):
            for part, color, line in (("train", COLORS[0], "--"), ("val", COLORS[1], "-")):
                label = {"train": "training", "val": "validation"}[part]
                _line(axis, metrics, lambda m, k=f"{part}_{quantity}": m.get(k), line, color, label)
            axis.set_title(quantity.capitalize())
            _mark_growth(axis, metrics)
            axis.legend()
            if not score.higher_is_better:
                axis.set_yscale("log")
        if score.higher_is_better:
            _from_zero(axes[0])
            axes[1].yaxis.set_major_formatter(PercentFormatter(1.0))
        for axis, (key, title) in zip(axes[2:], by_layer, strict=True):
            for n, name in enumerate(_layers(metrics, key)):
                color, mark = COLORS[n % len(COLORS)], MARKERS[n % len(MARKERS)]
                label = f"layer {name}" if name else "model"
                get = partial(_of_layer, key=key, name=name)
                _line(axis, metrics, get, f"-{mark}", color, label)
            axis.set_title(title)
            _from_zero(axis)
            _mark_growth(axis, metrics)
            axis.legend()
        for axis in axes:
            axis.set(xlabel="epoch", xlim=(metrics[0]["epoch"] - 0.5, metrics[-1]["epoch"] + 0.5))
            axis.xaxis.set_major_locator(whole_ticks(6))
        save_figure(fig, path)


def _mark_growth(axis: Axes, metrics: Sequence[Mapping[str, Any]]) -> None:
    """Draw a line after every epoch after which the model has grown."""
    grown = [record["epoch"] + 0.5 for record in metrics if record.get("growth")]
    for n, epoch in enumerate(grown):
        label = None if n else "growth"
        axis.axvline(epoch, color="0.6", linestyle=":", linewidth=0.8, label=label, zorder=0)


def _layers(metrics: Sequence[Mapping[str, Any]], key: str) -> list[str]:
    """Return the layers with values above rounding: those that lose nothing are not drawn."""
    names = dict.fromkeys(name for m in metrics for name in m.get(key) or ())
    least = ROUNDING if key == "truncation_error" else -1.0
    return [n for n in names if any((_of_layer(m, key, n) or 0.0) > least for m in metrics)]


def _of_layer(record: Mapping[str, Any], key: str, name: str) -> float | None:
    """Look up the value of a layer in a record, the largest if there are several."""
    value = (record.get(key) or {}).get(name)
    return max(value, default=None) if isinstance(value, list) else value


def _from_zero(axis: Axes) -> None:
    axis.set_ylim(0.0, 1.08 * max(axis.dataLim.y1, 1e-12))


def _line(
    axis: Axes, metrics: Sequence[Mapping[str, Any]], get: Any, line: str, color: str, label: str
) -> None:
    points = [(m["epoch"], get(m)) for m in metrics]
    points = [(x, y) for x, y in points if y is not None and np.isfinite(y)]
    if points:
        line = f"o{line}" if len(points) == 1 and line in ("-", "--") else line
        every = max(1, len(points) // 8)
        xs, ys = zip(*points, strict=True)
        axis.plot(xs, ys, line, color=color, label=label, markevery=every)


def plot_confusion(
    matrix: np.ndarray, class_names: Sequence[str], path: str | os.PathLike[str]
) -> None:
    """Plot a confusion matrix: counts as numbers, share of the true class as colour.

    Parameters
    ----------
    matrix : array (classes, classes) of int
        Rows are true classes, columns predicted ones.
    class_names : sequence of str
    path : path
        Output file.
    """
    matrix = np.asarray(matrix)
    n = len(class_names)
    if matrix.shape != (n, n):
        raise ValueError(f"matrix has shape {matrix.shape}, but there are {n} class_names")
    total = np.maximum(1, matrix.sum(axis=1, keepdims=True))
    share = matrix / total
    long = max(len(name) for name in class_names) > 2
    with style():
        fig = figure(5.6 if long else 4.8, 5.0 if long else 4.4)
        axis = fig.subplots()
        image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for i, j in zip(*np.nonzero(matrix), strict=True):
            color = "white" if share[i, j] > 0.5 else "#333333"
            axis.text(j, i, str(matrix[i, j]), ha="center", va="center", color=color, fontsize=7.5)
        axis.set_xticks(range(n), class_names)
        axis.set_yticks(range(n), class_names)
        if long:
            for text in axis.get_xticklabels():
                text.set(rotation=45, ha="right", rotation_mode="anchor")
        axis.grid(False)
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
        correct = np.trace(matrix) / max(1, matrix.sum())
        axis.set(xlabel="predicted", ylabel="true")
        axis.set_title(f"{correct:.2%} of {matrix.sum()} correct")
        bar = fig.colorbar(image, ax=axis, shrink=0.75, format=PercentFormatter(1.0))
        bar.outline.set_visible(False)
        bar.set_label("share of the true class")
        save_figure(fig, path)


def plot_bonds(report: Sequence[LayerRow], path: str | os.PathLike[str]) -> None:
    """Plot bond dimensions and entanglement along the chain, and singular-value decay, by layer.

    Layers that do not change the spectra, such as a norm, are omitted, as are product states if any
    states have larger bonds.

    Parameters
    ----------
    report : sequence of LayerRow
        From :func:`ftnn.interpret.report.layer_report`.
    path : path
        Output file.
    """
    rows = _changing(report)
    if not rows:
        raise ValueError("no layer has bonds: the chain has one site, there is nothing to plot")
    names = [row.path if row.path == "input" else f"{row.path} {row.type}".strip() for row in rows]
    colors = matplotlib.colormaps["viridis"](np.linspace(0.0, 0.88, len(rows)))
    longest = max(len(row.bonds) for row in rows)
    middle = {len(row.bonds) // 2 for row in rows}
    with style():
        fig = figure(11.0, max(3.2, 1.4 + 0.24 * len(rows)))
        first, second, third = fig.subplots(1, 3, width_ratios=(1.25, 1, 1))
        _bond_map(fig, first, rows, names)
        for n, (row, color) in enumerate(zip(rows, colors, strict=True)):
            look = {"color": color, "marker": MARKERS[n % len(MARKERS)], "label": names[n]}
            bonds = np.arange(1, len(row.bonds) + 1)
            second.plot(bonds, row.entropies, markevery=max(1, longest // 10), **look)
            values = row.spectra[len(bonds) // 2]
            third.semilogy(np.arange(1, len(values) + 1), np.maximum(values, _FLOOR), **look)
        second.set(xlabel="bond", ylabel="entropy (nats)", ylim=(0, None))
        second.set_title("Entanglement entropy")
        second.xaxis.set_major_locator(whole_ticks(8))
        third.set(xlabel="index", ylabel="normalized singular value")
        which = f"bond {min(middle) + 1}" if len(middle) == 1 else "middle bonds"
        third.set_title(f"Singular values, {which}")
        lowest = min(row.spectra[len(row.bonds) // 2].min() for row in rows)
        third.set_ylim(10.0 ** np.floor(np.log10(max(lowest, _FLOOR))), 1.05)
        third.yaxis.set_minor_formatter(NullFormatter())
        third.xaxis.set_major_locator(whole_ticks(8))
        fig.legend(*second.get_legend_handles_labels(), loc="outside right center")
        save_figure(fig, path)


def _changing(report: Sequence[LayerRow]) -> list[LayerRow]:
    rows: list[LayerRow] = []
    for row in report:
        if not row.bonds:
            continue
        if rows and rows[-1].bonds == row.bonds:
            pairs = zip(rows[-1].spectra, row.spectra, strict=True)
            if all(np.allclose(s, t, atol=1e-9) for s, t in pairs):
                continue
        rows.append(row)
    entangled = [row for row in rows if max(row.bonds) > 1]
    return entangled or rows


def _bond_map(fig: Figure, axis: Axes, rows: list[LayerRow], names: list[str]) -> None:
    n = max(len(row.bonds) for row in rows)
    bonds = np.full((len(rows), n), np.nan)  # chains may be of different lengths
    for row, line in zip(rows, bonds, strict=True):
        line[: len(row.bonds)] = row.bonds
    image = axis.imshow(
        bonds, cmap="cividis", aspect="auto", vmin=0, extent=(0.5, n + 0.5, len(rows) - 0.5, -0.5)
    )
    if n <= 12:
        for i, j in np.argwhere(np.isfinite(bonds)):
            color = "#222222" if bonds[i, j] > 0.6 * np.nanmax(bonds) else "white"
            text = f"{bonds[i, j]:.0f}"
            axis.text(j + 1, i, text, ha="center", va="center", color=color, fontsize=7.5)
    axis.set_yticks(range(len(rows)), names)
    axis.xaxis.set_major_locator(whole_ticks(8))
    axis.grid(False)
    axis.tick_params(length=0)
    for spine in axis.spines.values():
        spine.set_visible(False)
    axis.set_xlabel("bond")
    axis.set_title("Bond dimension")
    bar = fig.colorbar(image, ax=axis, ticks=whole_ticks(5))
    bar.outline.set_visible(False)
