"""Options of the experiment on Fashion-MNIST."""

from dataclasses import dataclass, field

from ...training.options import option
from ..options import ExperimentOptions, PatchNetworkOptions


@dataclass(frozen=True)
class FashionMNISTData(ExperimentOptions):
    """Options of the data common to all networks for Fashion-MNIST."""

    data: str | None = option(
        None, "Folder with the four idx files; by default the usual locations.", free=True
    )
    limit: int | None = option(
        None, "Use at most this many training and validation samples, for a trial.", least=1
    )
    augment: bool = option(False, "Mirror training images at random.")


@dataclass(frozen=True)
class FashionMNISTOptions(FashionMNISTData):
    """Options of the experiment on Fashion-MNIST."""

    network: PatchNetworkOptions = field(default=PatchNetworkOptions())
