"""The judge of a healing: batches, and the outputs of the dense model."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from .difference import Difference, mean_difference, shown
from .places import output_of


@dataclass(frozen=True, eq=False)
class Judge:
    """Batches, the outputs of the dense model, and the difference from them."""

    difference: Difference
    batches: list[Any]
    goals: list[Tensor]
    forward: Callable[[nn.Module, Any], Any]

    def error(self, model: nn.Module) -> float:
        """Return the difference: the relative error, or the mean divergence."""
        outputs = [output_of(self.forward(model, batch)) for batch in self.batches]
        return self.as_error(mean_difference(self.difference, outputs, self.goals))

    def as_error(self, value: float) -> float:
        """Return a mean difference as it is told: squares as their root."""
        return value**0.5 if self.difference == "l2" else value

    def shown(self, error: float) -> str:
        """Tell a difference."""
        value = error**2 if self.difference == "l2" else error
        return f"outputs differ by {shown(self.difference, value)}"
