"""A network on the quantics states of images."""

import numpy as np

from ...chains.terms import Cores
from ...encoding import AmplitudeEncoder, Encoder
from ...layers.layer import Layer
from ...structure import site_order
from ..networks import image_network
from ..splits import Data
from .options import QuanticsImageOptions

SAMPLES = 256
"""Training images whose states determine the order of the sites."""


def build(options: QuanticsImageOptions, data: Data) -> tuple[Encoder, Layer]:
    """Build a network on 5 sites of dimension 4, from the quadrants of an image to 2 x 2 pixels."""
    inputs, seed = data.train_inputs, options.train.seed
    encoder = AmplitudeEncoder((28, 28), "quantics", standardize="global").fit(inputs)
    if options.order == "mutual-information":
        order = site_order(encoder(inputs[:SAMPLES].astype(np.float64)))
        encoder = AmplitudeEncoder((28, 28), "quantics", standardize="global", chain=order.tolist())
        encoder.fit(inputs)
    by = None if options.bonds == "uniform" else options.bonds
    network = image_network(encoder, options.network, inputs[:256], 10, False, seed, by)
    return encoder, network


def mirror(cores: Cores, rng: np.random.Generator) -> Cores:
    """Mirror every image left to right with probability one half, as the state it is.

    Column x of a 2^L x 2^L image is at 2^L - 1 - x in its mirror image: every bit of the column
    is flipped. On a quantics state, whose sites are (row bit, column bit), that is the same
    permutation (0 1)(2 3) of the physical index on every site, an operator of bond dimension 1.
    """
    import torch

    chosen = torch.from_numpy(rng.random(len(cores[0])) < 0.5).to(cores[0].device)
    order = torch.tensor([1, 0, 3, 2], device=cores[0].device)
    return tuple(
        torch.where(chosen[:, None, None, None], core.index_select(2, order), core)
        for core in cores
    )
