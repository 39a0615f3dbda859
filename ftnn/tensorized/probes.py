"""Calibration batches on which a model with other layers is compared with the dense one."""

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from .difference import Difference, mean_difference, resolved
from .module import TensorizedModule
from .places import Place, output_of, put_layer

PROBES = 4
"""Calibration batches on which the outputs of the model are compared."""


class Probes:
    """Calibration batches that are kept, and what the model makes of them."""

    def __init__(
        self,
        model: nn.Module,
        forward: Callable[[nn.Module, Any], Any],
        difference: Literal["auto"] | Difference,
    ):
        self.model, self.forward = model, forward
        self._difference = difference
        self.batches: list[Any] = []

    def seen(self, batches: Iterable[Any]) -> Iterable[Any]:
        """Pass batches on, and keep the first."""
        for batch in batches:
            if len(self.batches) < PROBES:
                self.batches.append(batch)
            yield batch

    @cached_property
    def goals(self) -> list[Tensor]:
        """What the dense model makes of the batches."""
        return self.outputs(self.model)

    @cached_property
    def difference(self) -> Difference:
        """Measure of outputs."""
        if not self.batches:
            return "l2"
        with torch.no_grad():
            result = self.forward(self.model, self.batches[0])
        return resolved(self._difference, self.batches[0], result, output_of(result))

    def outputs(self, model: nn.Module) -> list[Tensor]:
        """Return what a model makes of the batches."""
        with torch.no_grad():
            return [output_of(self.forward(model, batch)).double() for batch in self.batches]

    def error(self, model: nn.Module) -> float:
        """Return the difference of the outputs of a model: squared, if it is the relative error."""
        return mean_difference(self.difference, self.outputs(model), self.goals)

    def told(self, error: float) -> float:
        """Return a difference as it is told: the root of a square."""
        return error**0.5 if self.difference == "l2" else error

    def error_with(self, place: Place, layer: TensorizedModule) -> float:
        """Return the difference with one layer replaced."""
        _ = self.goals  # of the dense model
        back = put_layer(self.model, place, layer)
        try:
            return self.error(self.model)
        finally:
            back()
