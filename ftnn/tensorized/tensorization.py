"""What became of a model that was tensorized: itself, and a row for every layer."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from ..layers.summary import aligned
from .difference import Difference, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEADS = ("layer", "kind", "format", "ranks", "parameters", "of", "error", "of the outputs")


@dataclass(frozen=True)
class Row:
    """What became of a layer.

    Attributes
    ----------
    name : str
        Its first name in the model.
    kind : str
        Class of the layer.
    format : str
        "dense" if it stays.
    ranks : tuple of int
    params, dense_params : int
        Entries of its weight, now and before.
    error : float
        Relative error of its outputs for inputs like those of the calibration, see
        :meth:`Moments.metric`; of its weight without them.
    output_error : float
        Difference of the outputs of the model if only this layer is replaced, in the measure of
        the tensorization.
    remark : str
        Why it stays dense; or that the calibration has fewer rows than inputs.
    """

    name: str
    kind: str
    format: str
    ranks: tuple[int, ...]
    params: int
    dense_params: int
    error: float = 0.0
    output_error: float = 0.0
    remark: str = ""


@dataclass(frozen=True, eq=False)
class Tensorization:
    """Result of :func:`tensorize`.

    Attributes
    ----------
    model : Module
        A copy of the model with tensorized layers. Its attribute ``neuron_orders`` has the orders
        of hidden neurons that were changed, by the names of the layers before and behind.
    rows : tuple of Row
        One for every layer that could have been tensorized, in the order of the model.
    params, dense_params : int
        Parameters of the whole model, now and before.
    error : float
        Difference of the outputs of the model on the calibration batches that were probed; not a
        number without calibration.
    difference : {"l2", "kl"} or callable
        Its measure: relative error, or divergence in nats.
    """

    model: nn.Module
    rows: tuple[Row, ...]
    params: int
    dense_params: int
    error: float
    difference: Difference = "l2"

    def table(self) -> str:
        """Return the rows as text.

        Returns
        -------
        str
        """
        lines = [HEADS]
        for row in self.rows:
            shown = "×".join(map(str, row.ranks)) if row.ranks else row.remark
            errors = (f"{row.error:.2%}", _shown(self.difference, row.output_error))
            if row.format == "dense":
                errors = ("", "")
            sizes = (f"{row.params:,}", f"{row.dense_params:,}")
            lines.append((row.name, row.kind, row.format, shown, *sizes, *errors))
        text = aligned(lines, 4)
        text += [f"{row.name}: {row.remark}" for row in self.rows if row.ranks and row.remark]
        ratio = self.dense_params / self.params
        text.append(
            f"model: {self.params:,} of {self.dense_params:,} parameters "
            f"({ratio:.3g} times fewer), error of the outputs {_shown(self.difference, self.error)}"
        )
        return "\n".join(text)

    def plot(self) -> "Figure":
        """Draw parameters before and after, and the error, of every layer.

        Returns
        -------
        matplotlib.figure.Figure
        """
        from ..plotting.tensorization import plot_tensorization

        unit = {"l2": "relative error", "kl": "nats"}.get(str(self.difference), "difference")
        return plot_tensorization(self.rows, unit)

    def __str__(self) -> str:
        """Return the table."""
        return self.table()


def _shown(difference: Difference, value: float) -> str:
    return shown(difference, value**2 if difference == "l2" else value)
