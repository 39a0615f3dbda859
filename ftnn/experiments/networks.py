"""The networks of the shipped image experiments."""

import numpy as np

from ..encoding import Encoder
from ..layers.calibration import calibrate
from ..layers.coarsen import Coarsen
from ..layers.layer import Layer
from ..layers.linear import Linear
from ..layers.readouts import Readout
from ..layers.sequential import Sequential
from ..nonlinear import KAN, Dropout, FeatureMap, Pointwise, RMSNorm
from .base import Config


def image_network(
    encoder: Encoder, config: Config, images: np.ndarray, num_classes: int, embed: bool
) -> Layer:
    """Build an optional embedding, ``depth`` entangling layers, and a readout.

    The embedding is a Linear of bond dimension 1, with a bias: every patch gets its own affine
    map. Each entangling layer is a Linear whose exact output bond is ``bond_dim`` times that of
    its input, truncated to ``max_bond``. A nonlinearity on cores follows every Linear, by default
    the one chosen by the comparison of docs/nonlinearity.md, and an RMS norm every entangling
    layer, so that the readout sees entries of order one.

    Parameters
    ----------
    encoder : Encoder
        Fitted to the training images.
    config : Config
        ``phys``, ``bond_dim``, ``max_bond``, ``depth``, ``nonlinearity``, ``readout_bond`` and
        ``seed`` are read.
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
    layers: list[Layer] = []
    if embed:
        seed = 10 * config.seed
        layers = [
            Linear(dims, hidden, bond_dim=1, max_bond=1, seed=seed),
            *nonlinearity(config, hidden, seed),
        ]
        dims = hidden
    return _finished(layers, dims, encoder, config, images, num_classes)


def patch_network(
    encoder: Encoder, config: Config, images: np.ndarray, num_classes: int, blocks: int
) -> Layer:
    """Build trainable features, a coarsening, ``depth`` entangling layers, and a readout.

    The same features for every patch make a product state; ``Coarsen`` maps blocks of it to one
    site each, still a product state. The entangling layers are as those of
    :func:`image_network`.

    Parameters
    ----------
    encoder : Encoder
        Of patches, fitted to the training images.
    config : Config
        ``features``, ``hidden``, ``dropout``, ``block_bond``, ``nonlinearity``, ``phys``,
        ``bond_dim``, ``max_bond``, ``depth``, ``readout_bond`` and ``seed`` are read.
    images : array (batch, height, width)
        Training images by which the initial scales are set.
    num_classes : int
    blocks : int
        Sites behind the coarsening.

    Returns
    -------
    Sequential
        float64, on NumPy.
    """
    dims, hidden = (config.features,) * len(encoder.phys_dims), (config.phys,) * blocks
    seed = 10 * config.seed
    layers: list[Layer] = [
        FeatureMap(encoder.phys_dims, dims, config.hidden, share=True, seed=seed),
        Dropout(config.dropout, seed),
        Coarsen(dims, hidden, config.block_bond, seed),
    ]
    return _finished(layers, hidden, encoder, config, images, num_classes)


def nonlinearity(config: Config, dims: tuple[int, ...], seed: int) -> list[Layer]:
    """Layers that ``config.nonlinearity`` names: a KAN of Gaussians, a fixed function, or none."""
    if config.nonlinearity == "kan":
        return [KAN(dims, basis="radial", share=True, seed=seed)]
    return [] if config.nonlinearity == "none" else [Pointwise(config.nonlinearity)]


def _finished(
    layers: list[Layer],
    dims: tuple[int, ...],
    encoder: Encoder,
    config: Config,
    images: np.ndarray,
    num_classes: int,
) -> Layer:
    """Add the entangling layers and the readout, and set the scales."""
    hidden, seed = (config.phys,) * len(dims), 10 * config.seed
    for n in range(1, config.depth + 1):
        layers += [
            Linear(dims, hidden, config.bond_dim, config.max_bond, bias=False, seed=seed + n),
            *nonlinearity(config, hidden, seed + n),
            RMSNorm(),
        ]
        dims = hidden
    model = Sequential(*layers, Readout(dims, num_classes, config.readout_bond, seed=seed))
    calibrate(model, encoder.encode(images.astype(np.float64)))
    return model
