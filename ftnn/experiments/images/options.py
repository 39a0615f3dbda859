"""Options of the experiment on images."""

from dataclasses import dataclass, field

from ...training.options import option
from ..options import ExperimentOptions, PatchNetworkOptions


@dataclass(frozen=True)
class ImagesOptions(ExperimentOptions):
    """Options of the experiment on images."""

    data: str | None = option(
        None, "Folder with one folder of PNG or JPEG files per class.", free=True
    )
    size: int | None = option(
        None, "Resize images to this many pixels per side; default their common size.", least=2
    )
    colour: bool = option(False, "Keep the colours.")
    patch: int = option(4, "Pixels per side of a patch, which becomes a site.", least=1)
    augment: bool = option(False, "Mirror training images at random.")
    held_out: float = option(
        0.2, "Fraction of the images held out for the test.", above=0.0, below=1.0
    )
    limit: int | None = option(
        None, "Use at most this many training and validation samples, for a trial.", least=1
    )
    network: PatchNetworkOptions = field(default=PatchNetworkOptions())
