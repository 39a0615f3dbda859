"""scikit-learn's digits: 8 x 8 images, in the package itself."""

from ..encoding import Encoder, ProductEncoder
from ..layer import Layer
from .base import Config, Data, Experiment
from .data import load_digits
from .networks import image_network


def load(config: Config) -> Data:
    """Load the three splits; nothing is downloaded."""
    return load_digits(config.seed).limited(config.limit)


def build(config: Config, data: Data) -> tuple[Encoder, Layer]:
    """16 patches of 2 x 2 pixels, as sites of dimension 5."""
    encoder = ProductEncoder((8, 8), patch=(2, 2)).fit(data.train_images)
    model = image_network(encoder, config, data.train_images[:256], num_classes=10, embed=True)
    return encoder, model


EXPERIMENT = Experiment(
    name="digits",
    description="scikit-learn's 8 x 8 digits; 16 sites, seconds on a laptop.",
    defaults=Config(
        epochs=15,
        batch_size=64,
        lr=1e-2,
        weight_decay=0.05,
        label_smoothing=0.05,
        ema_decay=0.98,
        threads=1,
        clip_norm=1.0,
        schedule="onecycle",
        warmup=0.2,
        phys=6,
        bond_dim=2,
        max_bond=3,
        depth=2,
        readout_bond=10,
    ),
    load=load,
    build=build,
)
