"""Options of the experiment on the Burgers equation."""

from dataclasses import dataclass
from typing import ClassVar

from ...training.options import option
from ..quantics.options import QuanticsOptions


@dataclass(frozen=True)
class BurgersOptions(QuanticsOptions):
    """Options of the experiment on the Burgers equation."""

    unused: ClassVar[dict[str, str]] = QuanticsOptions.unused | {
        "linear_lr": "as its network has no Linear layer"
    }

    depth: int = option(
        2, "Number of gated layers.", least=1, remedy="the network consists of layers only"
    )
