"""A network on product states of patches, coarsened to the rows of patches."""

import numpy as np

from ...encoding import Encoder, ProductEncoder
from ...layers.layer import Layer
from ..networks import patch_network
from ..splits import Data
from .options import FashionMNISTOptions

PATCH = 4
ROWS = 28 // PATCH


def build(options: FashionMNISTOptions, data: Data) -> tuple[Encoder, Layer]:
    """Build a network on 49 patches of 4 x 4 pixels, coarsened to 7 sites: the rows of patches.

    With ``merge`` these are made of 196 patches of 2 x 2.
    """
    side = PATCH // 2 if options.network.merges else PATCH
    # undo the encoder's division by the root of the number of pixels: unit variance
    encoder = ProductEncoder(
        (28, 28), (side, side), order="row-major", scale=side, standardize="global"
    )
    encoder.fit(data.train_inputs)
    images, seed = data.train_inputs[:256], options.train.seed
    return encoder, patch_network(encoder, options.network, images, 10, blocks=ROWS, seed=seed)


def mirror_images(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror every image left to right with probability one half."""
    chosen = rng.random(len(images)) < 0.5
    return np.where(chosen[:, None, None], images[:, :, ::-1], images)
