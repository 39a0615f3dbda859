"""What became of a network that was put on states: itself, and the errors of its layers."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, prod
from typing import Any

import numpy as np
from autoray import get_dtype_name, infer_backend

from ..arrays.backend import to_numpy
from ..chains.bonds import MaxBond
from ..chains.display import format_dims
from ..chains.states import MPS
from ..layers.sequential import Sequential
from ..layers.summary import aligned

HEADS = (
    "module", "kind", "on states", "dims", "parameters", "of", "weight", "by itself", "so far",
    "truncation",
)  # fmt: skip


@dataclass(frozen=True)
class NetworkRow:
    """A layer, and its errors on the calibration inputs; not numbers without any.

    Attributes
    ----------
    name : str
        Of the module in the dense network; empty for the input.
    kind, layer : str
        Classes of the module, and of what is in its place.
    dims : tuple of int
        Of its output.
    params, dense_params : int
    weight : float
        Relative error of the weight, in the metric in which it was fitted.
    own : float
        Relative error of its output, given the inputs that it gets from the layers before.
    error : float
        Relative distance of its output from that of the dense network: of all layers so far.
    truncation : float
        Relative error of the dense network's activation when truncated to the same bond by
        singular values. Where it is large, no layer could do well.
    """

    name: str
    kind: str
    layer: str
    dims: tuple[int, ...]
    params: int
    dense_params: int
    weight: float
    own: float
    error: float
    truncation: float


@dataclass(frozen=True, eq=False)
class Network:
    """Result of :func:`ftnn.from_dense`.

    Attributes
    ----------
    model : Sequential
        Maps states to outputs (batch, num_outputs), or to states if it ends with a function.
    rows : tuple of NetworkRow
        One for the input, if there were calibration inputs, and one for every layer.
    in_dims : tuple of int
    in_features : int
        Features of the dense network.
    max_bond : int, tuple of int or None
    dense_params : int
        Parameters of the dense network.
    """

    model: Sequential
    rows: tuple[NetworkRow, ...]
    in_dims: tuple[int, ...]
    in_features: int
    max_bond: MaxBond | None
    dense_params: int

    @property
    def params(self) -> int:
        """Parameters of the network on states."""
        return self.model.num_params()

    @property
    def error(self) -> float:
        """Relative error of the outputs on the calibration inputs; not a number without any."""
        return self.rows[-1].error

    def encode(self, x: Any) -> MPS:
        """Return inputs of the dense network as states, on the backend of the model.

        Parameters
        ----------
        x : array or Tensor (batch, ...)
            Flattened, padded with zeros to the dimensions, and truncated to ``max_bond``.

        Returns
        -------
        MPS

        Raises
        ------
        ValueError
            If it has another number of features.
        """
        rows = to_numpy(x).astype(np.float64)
        rows = rows.reshape(len(rows), -1)
        if rows.shape[1] != self.in_features:
            raise ValueError(
                f"x has shape {tuple(x.shape)}, expected (batch, ...) with {self.in_features} "
                "features each"
            )
        states = MPS.from_dense(padded(rows, self.in_dims), self.in_dims, self.max_bond)
        like = next(iter(self.model.named_arrays().values()))
        device = str(like.device) if infer_backend(like) == "torch" else None
        return states.to(infer_backend(like), get_dtype_name(like), device)

    def table(self) -> str:
        """Return the rows as text.

        Returns
        -------
        str
        """
        lines: list[Sequence[str]] = [HEADS]
        for row in self.rows:
            sizes = [f"{n:,}" if n else "" for n in (row.params, row.dense_params)]
            errors = (row.weight, row.own, row.error, row.truncation)
            dims = str(row.dims[0]) if row.layer == "Readout" else format_dims(row.dims)
            shown = ["" if isnan(error) else f"{error:.2%}" for error in errors]
            lines.append((row.name, row.kind, row.layer, dims, *sizes, *shown))
        text = aligned(lines, 4)
        text.append(f"network: {self.params:,} parameters, dense: {self.dense_params:,}")
        return "\n".join(text)

    def __str__(self) -> str:
        """Return the table."""
        return self.table()


def padded(rows: np.ndarray, dims: Sequence[int]) -> np.ndarray:
    """Pad rows (n, features) with zeros to the product of dimensions."""
    return np.pad(rows, ((0, 0), (0, prod(dims) - rows.shape[1])))
