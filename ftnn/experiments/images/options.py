"""Options of the experiment on images."""

from dataclasses import dataclass, field

from ...training.options import option
from ..options import ExperimentOptions, PatchNetworkOptions


@dataclass(frozen=True)
class ImagesOptions(ExperimentOptions):
    """Options of the experiment on images."""

    data: str | None = option(
        None, "Folder with a folder of PNG or JPEG files for every class.", free=True
    )
    size: int | None = option(
        None, "Resize images to so many pixels a side; default the size that all have.", least=2
    )
    colour: bool = option(False, "Keep the colours.")
    patch: int = option(4, "Pixels a side of a patch, which becomes a site.", least=1)
    augment: bool = option(False, "Train on images mirrored at random.")
    held_out: float = option(
        0.2, "Share of the images held out for the test.", above=0.0, below=1.0
    )
    limit: int | None = option(
        None, "Train and validate on at most so many samples, for a trial.", least=1
    )
    network: PatchNetworkOptions = field(default=PatchNetworkOptions())
