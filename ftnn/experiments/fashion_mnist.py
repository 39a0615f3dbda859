"""Fashion-MNIST: 28 x 28 images of clothes, as product states of patches."""

import numpy as np

from ..encoding import Encoder, ProductEncoder
from ..layers.layer import Layer
from .base import FUNCTIONS_ONLY, LAYERS_ONLY, STATES_ONLY, Config, Data, Experiment
from .data import load_fashion_mnist
from .networks import patch_network

PATCH = 4
ROWS = 28 // PATCH


def load(config: Config) -> Data:
    """Load the three splits, from ``config.data`` or one of the usual places."""
    return load_fashion_mnist(config.data, config.seed).limited(config.limit)


def build(config: Config, data: Data) -> tuple[Encoder, Layer]:
    """49 patches of 4 x 4 pixels, coarsened to 7 sites: the rows of patches."""
    # the encoder divides by the root of the number of pixels: back to a variance of one
    encoder = ProductEncoder(
        (28, 28), (PATCH, PATCH), order="row-major", scale=PATCH, standardize="global"
    )
    encoder.fit(data.train_inputs)
    images = data.train_inputs[:256]
    return encoder, patch_network(encoder, config, images, num_classes=10, blocks=ROWS)


def mirrored(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror every image left to right with probability one half."""
    chosen = rng.random(len(images)) < 0.5
    return np.where(chosen[:, None, None], images[:, :, ::-1], images)


EXPERIMENT = Experiment(
    name="fashion-mnist",
    description="Fashion-MNIST, 28 x 28; 49 patches coarsened to 7 sites; half an hour.",
    load=load,
    build=build,
    unused=(*STATES_ONLY, *FUNCTIONS_ONLY),
    layers_only=(*LAYERS_ONLY, "nonlinearity", "linear_lr"),
    augment=mirrored,
)
