"""Options of the experiment on compression."""

from dataclasses import dataclass
from itertools import pairwise
from math import inf
from typing import ClassVar, Literal

from ...training.options import option
from ..options import ExperimentOptions

FORMATS = ("svd", "mpo", "tt", "ring", "tree", "tucker", "cp")
"""Formats of the layers of ftnn.tensorized; a name here keeps torch out of help texts."""


@dataclass(frozen=True)
class CompressionOptions(ExperimentOptions):
    """Options of the experiment on compression."""

    unused: ClassVar[dict[str, str]] = {
        "linear_lr": "as its network has no Linear layers on states",
        "recompute": "as its network is one layer",
        "grow": "as its network is dense",
    }

    data: str | None = option(
        None, "Folder with the four idx files; by default the usual locations.", free=True
    )
    limit: int | None = option(
        None, "Use at most this many training and validation samples, for a trial.", least=1
    )
    network: Literal["mlp", "resnet"] = option(
        "mlp", "Dense network: 784-1024-1024-10, or small and residual with convolutions."
    )
    ratios: str = option(
        "4,16,64,256", "Times by which the number of parameters falls, with commas between."
    )
    formats: str = option(
        "auto", "Formats of layers to try, such as mpo,svd,tucker, or auto for all of them."
    )
    calibration: int = option(
        10_000, "Training images to which layers are fitted, at most.", least=1
    )
    heal_epochs: int = option(
        6, "Epochs of training a compressed network as a whole; 0 is off.", least=0
    )
    heal_lr: float = option(1e-3, "Peak learning rate of these epochs.", above=0.0)

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers = self.numbers
        if any(not a < b < inf for a, b in pairwise((1.0, *numbers))):
            raise ValueError(
                f"ratios is {self.ratios!r}, expected rising numbers above 1; try 4,16,64"
            )

        names = self.names
        if names != "auto" and not set(names) <= set(FORMATS):
            raise ValueError(
                f"formats is {self.formats!r}, expected auto, or some of {', '.join(FORMATS)}"
            )
        if self.train.dtype.startswith("complex"):
            raise ValueError(
                f"dtype is {self.train.dtype!r}, but the network is real; choose float32 or float64"
            )

    @property
    def numbers(self) -> tuple[float, ...]:
        """The ratios as numbers; a single 1 for what is none."""
        try:
            return tuple(float(part) for part in self.ratios.split(","))
        except ValueError:
            return (1.0,)

    @property
    def names(self) -> str | tuple[str, ...]:
        """The formats by name, or "auto"."""
        if self.formats == "auto":
            return "auto"
        return tuple(name.strip() for name in self.formats.split(","))

    def idle(self) -> dict[str, str]:
        """Return the learning rate of the healing, if there is none."""
        return {} if self.heal_epochs else {"heal_lr": "with heal_epochs 0"}
