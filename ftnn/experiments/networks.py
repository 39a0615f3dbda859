"""The network of the shipped image experiments."""

import numpy as np

from ..calibration import calibrate
from ..encoding import Encoder
from ..layer import Layer
from ..layers import Linear, Sequential
from ..nonlinear import KAN, RMSNorm
from ..readouts import Readout
from .base import Config


def image_network(
    encoder: Encoder, config: Config, images: np.ndarray, num_classes: int, embed: bool
) -> Layer:
    """Build an optional embedding, ``depth`` entangling layers, and a readout.

    The embedding is a Linear of bond dimension 1, with a bias: every patch gets its own affine
    map. Each entangling layer is a Linear whose exact output bond is ``bond_dim`` times that of
    its input, truncated to ``max_bond``. A KAN of Gaussians on cores follows every Linear, chosen
    by the comparison of docs/nonlinearity.md, and an RMS norm every entangling layer, so that the
    readout sees entries of order one.

    Parameters
    ----------
    encoder : Encoder
        Fitted to the training images.
    config : Config
        ``phys``, ``bond_dim``, ``max_bond``, ``depth``, ``readout_bond`` and ``seed`` are read.
    images : array (batch, height, width)
        Training images by which the initial scales are set.
    num_classes : int
    embed : bool
        Put an embedding first, as product states of patches need it.

    Returns
    -------
    Sequential
        float64, on NumPy.
    """
    dims, hidden = encoder.phys_dims, (config.phys,) * len(encoder.phys_dims)
    seed = 10 * config.seed
    layers: list[Layer] = []
    if embed:
        layers += [
            Linear(dims, hidden, bond_dim=1, max_bond=1, seed=seed),
            KAN(hidden, basis="radial", share=True, seed=seed),
        ]
    for n in range(1, config.depth + 1):
        inputs = hidden if layers else dims
        layers += [
            Linear(inputs, hidden, config.bond_dim, config.max_bond, bias=False, seed=seed + n),
            KAN(hidden, basis="radial", share=True, seed=seed + n),
            RMSNorm(),
        ]
    model = Sequential(*layers, Readout(hidden, num_classes, config.readout_bond, seed=seed))
    calibrate(model, encoder.encode(images.astype(np.float64)))
    return model
