"""A network on product states of patches, coarsened to the rows of patches."""

from ...encoding import Encoder, ProductEncoder
from ...layers.layer import Layer
from ..networks import patch_network
from ..splits import Data
from .options import ImagesOptions


def build(options: ImagesOptions, data: Data) -> tuple[Encoder, Layer]:
    """Build a network on square patches, coarsened to a site for every row of patches."""
    height, width = data.train_inputs.shape[1:]
    channels = 3 if options.colour else 1
    if height % options.patch or width % (options.patch * channels):
        raise ValueError(
            f"patch is {options.patch}, which does not divide {height} x {width // channels} "
            "pixels; choose another, or resize with --size"
        )
    if options.network.merges and options.patch % 2:
        raise ValueError(f"patch is {options.patch}, but merge needs an even one: it is halved")
    side = options.patch // 2 if options.network.merges else options.patch
    patch = (side, side * channels)  # all colours of a pixel in one patch
    # undo the encoder's division by the root of the number of pixels: unit variance
    scale = (patch[0] * patch[1]) ** 0.5
    encoder = ProductEncoder(
        (height, width), patch, order="row-major", scale=scale, standardize="global"
    )
    encoder.fit(data.train_inputs)
    images, seed = data.train_inputs[:256], options.train.seed
    outputs, rows = len(data.class_names), height // options.patch
    return encoder, patch_network(encoder, options.network, images, outputs, rows, seed)
