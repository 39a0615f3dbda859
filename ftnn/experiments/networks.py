"""The networks of the shipped image experiments."""

from collections.abc import Sequence

import numpy as np

from ..chains.bonds import MaxBond, check_memory, cut_bonds
from ..chains.states import MPS
from ..chains.terms import Cores
from ..encoding import Encoder
from ..layers.calibration import calibrate
from ..layers.coarsen import Coarsen
from ..layers.layer import Layer
from ..layers.linear import Linear
from ..layers.readouts import Readout
from ..layers.sequential import Sequential
from ..nonlinear import KAN, BlockMap, Dropout, FeatureMap, Pointwise, ProductMap, RMSNorm
from ..structure import bond_profile, num_params
from .bonds import bonds_of, needed_bond
from .options import ImageNetworkOptions, PatchNetworkOptions

NEIGHBOURS = ((0, 0), (0, 1), (0, -1), (1, 0), (-1, 0))
"""A patch and its four neighbours, in rows and columns."""


def image_network(
    encoder: Encoder,
    options: ImageNetworkOptions,
    images: np.ndarray,
    num_classes: int,
    embed: bool,
    seed: int,
    by: str | None = None,
) -> Layer:
    """Build an optional embedding, ``depth`` entangling layers, and a readout.

    The embedding is a Linear of bond dimension 1, with a bias: an affine map for every patch. Each
    entangling layer is a Linear whose exact output bond is ``bond_dim`` times that of its input,
    truncated to ``max_bond``. A nonlinearity on cores follows every Linear, by default the one
    chosen in docs/nonlinearity.md, and an RMS norm follows every entangling layer, so that the
    readout sees entries of order one.

    Parameters
    ----------
    encoder : Encoder
        Fitted to the training images.
    options : ImageNetworkOptions
    images : array (batch, height, width)
        Training images that determine the initial scales.
    num_classes : int
    embed : bool
        Whether to start with an embedding, which product states of patches need.
    seed : int
    by : {"spectra", "entropy"}, optional
        By what of the images the parameters of every weight, and the entries of every state, are
        shared out to the cuts, see :func:`ftnn.structure.bond_profile`; by default bonds are
        uniform. Not with ``embed``.

    Returns
    -------
    Sequential
        float64, on NumPy.
    """
    dims, hidden = encoder.phys_dims, (options.phys,) * len(encoder.phys_dims)
    cores, layers = _encoded(encoder, images), []
    bonds = bonds_of(cores)
    if embed:
        if options.nonlinearity == "kan":
            check_memory([(options.phys, options.phys)], "phys")
        layers = [
            Linear(dims, hidden, bond_dim=1, max_bond=1, seed=10 * seed),
            *nonlinearity(options.nonlinearity, hidden, 10 * seed),
        ]
        dims, bonds = hidden, (1,) * len(bonds)
    return _finished(layers, dims, bonds, cores, options, num_classes, seed, by)


def patch_network(
    encoder: Encoder,
    options: PatchNetworkOptions,
    images: np.ndarray,
    num_classes: int,
    blocks: int,
    seed: int,
) -> Layer:
    """Build trainable features, a coarsening, ``depth`` entangling layers, and a readout.

    The same features for every patch make a product state. With ``products`` layers they are
    multiplied with those of the four neighbours, as residuals but for the last layer; with
    ``merge`` they are products of patches half as wide, 2 x 2 of which become one site, and nothing
    is nonlinear but products. ``Coarsen`` maps blocks of the state to one site each, still a
    product state. The entangling layers are those of :func:`image_network`.

    Parameters
    ----------
    encoder : Encoder
        Of patches, fitted to the training images; with ``merge`` four times as many.
    options : PatchNetworkOptions
    images : array (batch, height, width)
        Training images that determine the initial scales.
    num_classes : int
    blocks : int
        Number of sites after the coarsening: rows of patches, in row-major order.
    seed : int

    Returns
    -------
    Sequential
        float64, on NumPy.
    """
    merged = 4 if options.merges else 1
    sites, hidden = len(encoder.phys_dims) // merged, (options.phys,) * blocks
    dims = (options.features,) * sites
    layers: list[Layer] = [
        *_features(encoder.phys_dims, dims, blocks, options, 10 * seed),
        Dropout(options.dropout, 10 * seed),
        Coarsen(dims, hidden, options.block_bond, 10 * seed),
    ]
    cores, bonds = _encoded(encoder, images), (1,) * (blocks + 1)
    return _finished(layers, hidden, bonds, cores, options, num_classes, seed)


def _features(
    phys_dims: tuple[int, ...],
    dims: tuple[int, ...],
    rows: int,
    options: PatchNetworkOptions,
    seed: int,
) -> list[Layer]:
    """Return the layers from the pixels of patches to ``dims``, with products if there are any."""
    if not options.products:
        return [FeatureMap(phys_dims, dims, options.hidden, share=True, seed=seed)]
    wide, grid = (options.channels,) * len(dims), (rows, len(dims) // rows)
    layers: list[Layer]
    if not options.merge:
        layers = [FeatureMap(phys_dims, wide, options.hidden, share=True, seed=seed)]
    else:
        half, fine = options.channels // 2 + 1, (2 * grid[0], 2 * grid[1])
        small = (half,) * len(phys_dims)
        gates = max(1, options.gates // 2) * len(NEIGHBOURS)
        layers = [
            ProductMap(phys_dims, small, gates, fine, NEIGHBOURS, normalize=False, seed=seed),
            BlockMap(small, options.channels, options.block_bond, fine, seed=seed),
        ]
    for n in range(1, options.products + 1):
        last, hidden = n == options.products, options.gates * len(NEIGHBOURS)
        out = dims if last else wide
        layers.append(
            ProductMap(wide, out, hidden, grid, NEIGHBOURS, residual=not last, seed=seed + n)
        )
    return layers


def nonlinearity(name: str, dims: tuple[int, ...], seed: int) -> list[Layer]:
    """Return the layers of a nonlinearity: a KAN of Gaussians, a fixed function, or none."""
    if name == "kan":
        return [KAN(dims, basis="radial", share=True, seed=seed)]
    return [] if name == "none" else [Pointwise(name)]


def _finished(
    layers: list[Layer],
    dims: tuple[int, ...],
    bonds: tuple[int, ...],
    cores: Cores,
    options: ImageNetworkOptions,
    num_classes: int,
    seed: int,
    by: str | None = None,
) -> Layer:
    """Add the entangling layers and the readout, and set the scales on encoded images."""
    hidden, seed = (options.phys,) * len(dims), 10 * seed
    pairs = [(dims, hidden), *[(hidden, hidden)] * (options.depth - 1)][: options.depth]
    max_bond = needed_bond(pairs, bonds, options.bond_dim, options.max_bond, len(cores[0]))
    for n in range(1, options.depth + 1):
        bond_dims: MaxBond = options.bond_dim
        max_bonds: MaxBond = max_bond
        if by is not None:
            sizes = [out * own for out, own in zip(hidden, dims, strict=True)]
            bond_dims = shared_out(cores, sizes, options.bond_dim, by)
            max_bonds = shared_out(cores, hidden, max_bond, by)
        layers += [
            Linear(dims, hidden, bond_dims, max_bonds, bias=False, seed=seed + n),
            *nonlinearity(options.nonlinearity, hidden, seed + n),
            RMSNorm(),
        ]
        dims = hidden
    model = Sequential(*layers, Readout(dims, num_classes, options.readout_bond, seed=seed))
    calibrate(model, cores)
    return model


def shared_out(cores: Cores, dims: Sequence[int], bond: int, by: str) -> tuple[int, ...]:
    """Return bonds that suit states, with the parameters of a uniform one.

    Parameters
    ----------
    cores : tuple of array (batch, left, phys, right)
    dims : sequence of int
        Entries of a core for every pair of bonds.
    bond : int
    by : {"spectra", "entropy"}
    """
    uniform = cut_bonds(dims, bond)[1:-1]
    return bond_profile(MPS(cores), num_params(dims, uniform), dims, by)


def _encoded(encoder: Encoder, images: np.ndarray) -> Cores:
    """Return images as states, in double precision."""
    return encoder.encode(images.astype(np.float64) if images.dtype.kind == "f" else images)
