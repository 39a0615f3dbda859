"""Options of the experiment on quantics states of Fashion-MNIST."""

from dataclasses import dataclass, field
from typing import Literal

from ...training.options import option
from ..fashion_mnist.options import FashionMNISTData
from ..options import ImageNetworkOptions


@dataclass(frozen=True)
class QuanticsImageOptions(FashionMNISTData):
    """Options of the experiment on quantics states of Fashion-MNIST."""

    order: Literal["coarse-to-fine", "mutual-information"] = option(
        "coarse-to-fine", "Order of the sites; mutual-information is of training images."
    )
    bonds: Literal["uniform", "spectra", "entropy"] = option(
        "uniform",
        "Bonds of the cuts; others share out the parameters by what training images have there.",
    )
    network: ImageNetworkOptions = field(default=ImageNetworkOptions())

    def idle(self) -> dict[str, str]:
        """Return what is unused: without layers the readout sees the states unchanged."""
        none = self.network.depth == 0
        return dict.fromkeys(("phys", "nonlinearity", "bonds"), "at depth 0") if none else {}
