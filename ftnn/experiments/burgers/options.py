"""Options of the experiment on the Burgers equation."""

from dataclasses import dataclass

from ...training.options import option
from ..quantics.options import QuanticsOptions


@dataclass(frozen=True)
class BurgersOptions(QuanticsOptions):
    """Options of the experiment on the Burgers equation."""

    depth: int = option(
        2, "Number of gated layers.", least=1, remedy="the network consists of layers only"
    )
