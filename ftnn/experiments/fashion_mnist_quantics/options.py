"""Options of the experiment on quantics states of Fashion-MNIST."""

from dataclasses import dataclass, field

from ..fashion_mnist.options import FashionMNISTData
from ..options import ImageNetworkOptions


@dataclass(frozen=True)
class QuanticsImageOptions(FashionMNISTData):
    """Options of the experiment on quantics states of Fashion-MNIST."""

    network: ImageNetworkOptions = field(default=ImageNetworkOptions())

    def idle(self) -> dict[str, str]:
        """Return what is unused: without layers the readout sees the states unchanged."""
        none = self.network.depth == 0
        return dict.fromkeys(("phys", "nonlinearity"), "at depth 0") if none else {}
