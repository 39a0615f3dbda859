"""A network on product states of patches."""

from ...encoding import Encoder, ProductEncoder
from ...layers.layer import Layer
from ..networks import image_network
from ..splits import Data
from .options import DigitsOptions


def build(options: DigitsOptions, data: Data) -> tuple[Encoder, Layer]:
    """Build a network on 16 patches of 2 x 2 pixels, as sites of dimension 5."""
    encoder = ProductEncoder((8, 8), patch=(2, 2)).fit(data.train_inputs)
    images, seed = data.train_inputs[:256], options.train.seed
    network = image_network(encoder, options.network, images, 10, embed=True, seed=seed)
    return encoder, network
