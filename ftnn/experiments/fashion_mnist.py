"""Fashion-MNIST: 28 x 28 images of clothes."""

import numpy as np

from ..encoding import Encoder, ProductEncoder
from ..layer import Layer
from .base import Config, Data, Experiment
from .data import load_fashion_mnist
from .networks import patch_network


def load(config: Config) -> Data:
    """Load the three splits, from ``config.data`` or one of the usual places."""
    return load_fashion_mnist(config.data, config.seed).limited(config.limit)


def build(config: Config, data: Data) -> tuple[Encoder, Layer]:
    """16 patches of 7 x 7 pixels, as sites of dimension 50."""
    encoder = ProductEncoder((28, 28), patch=(7, 7)).fit(data.train_images)
    return encoder, patch_network(encoder, config, data.train_images[:256], num_classes=10)


def flip(images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Mirror every image left to right with probability one half."""
    return np.where(rng.random((len(images), 1, 1)) < 0.5, images[:, :, ::-1], images)


EXPERIMENT = Experiment(
    name="fashion-mnist",
    description="Fashion-MNIST, 28 x 28; 16 sites of dimension 50, minutes on two cores.",
    defaults=Config(
        epochs=12,
        batch_size=500,
        lr=1e-2,
        weight_decay=0.02,
        label_smoothing=0.05,
        ema_decay=0.99,
        clip_norm=1.0,
        schedule="onecycle",
        warmup=0.2,
        phys=10,
        bond_dim=2,
        max_bond=3,
        depth=2,
        readout_bond=12,
    ),
    load=load,
    build=build,
    augment=flip,
)
