"""Options of the experiment on Fashion-MNIST."""

from dataclasses import dataclass, field

from ...training.options import option
from ..options import ExperimentOptions, PatchNetworkOptions


@dataclass(frozen=True)
class FashionMNISTData(ExperimentOptions):
    """What every network for Fashion-MNIST is trained on."""

    data: str | None = option(
        None, "Folder with the four idx files; by default the usual places.", free=True
    )
    limit: int | None = option(
        None, "Train and validate on at most so many samples, for a trial.", least=1
    )
    augment: bool = option(False, "Train on images mirrored at random.")


@dataclass(frozen=True)
class FashionMNISTOptions(FashionMNISTData):
    """Options of the experiment on Fashion-MNIST."""

    network: PatchNetworkOptions = field(default=PatchNetworkOptions())
