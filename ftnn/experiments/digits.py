"""scikit-learn's digits: 8 x 8 images, in the package itself."""

from ..encoding import Encoder, ProductEncoder
from ..layers.layer import Layer
from .base import FUNCTIONS_ONLY, PATCHES_ONLY, STATES_ONLY, Config, Data, Experiment
from .data import load_digits
from .networks import image_network


def load(config: Config) -> Data:
    """Load the three splits; nothing is downloaded."""
    return load_digits(config.seed).limited(config.limit)


def build(config: Config, data: Data) -> tuple[Encoder, Layer]:
    """16 patches of 2 x 2 pixels, as sites of dimension 5."""
    encoder = ProductEncoder((8, 8), patch=(2, 2)).fit(data.train_inputs)
    model = image_network(encoder, config, data.train_inputs[:256], num_classes=10, embed=True)
    return encoder, model


EXPERIMENT = Experiment(
    name="digits",
    description="scikit-learn's 8 x 8 digits; 16 sites, seconds on a laptop.",
    load=load,
    build=build,
    unused=("data", *STATES_ONLY, *PATCHES_ONLY, *FUNCTIONS_ONLY),
)
