"""Parameters and errors of tensorized layers."""

from collections.abc import Sequence
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Any

from .style import COLORS, figure, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_tensorization(rows: Sequence[Any], unit: str = "relative error") -> "Figure":
    """Draw parameters before and after, and the error of the outputs, of every layer.

    Parameters
    ----------
    rows : sequence of Row
        As of :class:`ftnn.tensorized.Tensorization`.
    unit : str
        Of the errors.

    Returns
    -------
    matplotlib.figure.Figure
    """
    names = [row.name for row in rows]
    places = range(len(rows))
    from matplotlib.ticker import NullFormatter

    with style():
        fig = figure(7.0, 1.2 + 0.28 * len(rows))
        left, right = fig.subplots(1, 2, sharey=True)
        sizes = ((-0.2, "dense_params", "dense"), (0.2, "params", "tensorized"))
        for n, (shift, field, label) in enumerate(sizes):
            values = [getattr(row, field) for row in rows]
            left.barh(
                [place + shift for place in places], values, 0.38, color=COLORS[n], label=label
            )
        sizes_shown = [size for row in rows for size in (row.params, row.dense_params)]
        least, most = (log10(max(edge(sizes_shown), 1)) for edge in (min, max))
        limits = 10.0 ** floor(least - 0.1), 10.0 ** ceil(most + 0.1)
        left.set(xscale="log", xlabel="parameters of the weight", xlim=limits)
        left.xaxis.set_minor_formatter(NullFormatter())  # decades are told, and no more
        left.set_yticks(list(places), names)
        left.invert_yaxis()
        fig.legend(*left.get_legend_handles_labels(), fontsize=7, ncols=2, loc="outside upper left")
        kept = [place for place in places if rows[place].format != "dense"]
        errors = [rows[place].output_error for place in kept]
        right.barh(kept, errors, 0.5, color=COLORS[2])
        for place in kept:
            row = rows[place]
            shown = f" {row.format} {'×'.join(map(str, row.ranks))}"
            right.text(0, place, shown, va="center", fontsize=7)
        right.set(xlabel=f"outputs with this layer alone: {unit}")
        return fig
