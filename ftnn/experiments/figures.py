"""The figures of a run folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..interpret.report import LayerRow, StateRow
from ..layers.layer import Layer
from ..layers.sequential import Sequential
from ..nonlinear import KAN
from ..plotting import (
    plot_bonds,
    plot_confusion,
    plot_curves,
    plot_entanglement,
    plot_functions,
    plot_network,
    plot_spectra,
)
from ..training.score import Score


def draw_figures(
    folder: Path,
    model: Layer,
    metrics: Sequence[Mapping[str, Any]],
    summary: Mapping[str, Any],
    report: tuple[LayerRow, ...],
    states: tuple[StateRow, ...],
    class_names: Sequence[str],
    score: Score,
) -> list[Path]:
    """Draw every figure for which there is data; return the files written."""
    written = []
    if metrics:
        plot_curves(metrics, folder / "curves.png", score)
        written.append(folder / "curves.png")
    if "confusion" in summary:
        matrix = np.array(summary["confusion"])
        plot_confusion(matrix, class_names, folder / "confusion.png")
        written.append(folder / "confusion.png")
    if len(report[0].in_dims) > 1:  # a single site has no bonds
        plot_bonds(report, folder / "bonds.png")
        plot_spectra(report, folder / "spectra.png")
        plot_entanglement(states, class_names or ("all",), folder / "entanglement.png")
        written += [folder / f"{name}.png" for name in ("bonds", "spectra", "entanglement")]
    plot_network(model, folder / "network.png", max(report[0].bonds, default=1))
    written.append(folder / "network.png")
    for number, layer in enumerate(model.layers if isinstance(model, Sequential) else ()):
        if isinstance(layer, KAN):
            written.append(folder / f"functions-{number}.png")
            plot_functions(layer, written[-1])
    return written
