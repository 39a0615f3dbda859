r"""Layers that are fitted for short times, and the doubling of time.

Evolution is autonomous, :math:`U(2t) = U(t)^2`: a network for time t, twice, is one for 2t. A
single layer is fitted by least squares, and its square, compressed to its bond dimension, starts
the fit for twice the time; then layers are repeated, and trained by gradients. Training directly
for a long time does not work: the overlap of the first output with the target is exponentially
small in the number of sites, and so are its gradients (Anschuetz, arXiv:2205.05786;
arXiv:2301.08609 for MPS).
"""

from collections.abc import Callable

import numpy as np

from ...chains.operators import MPO
from ...chains.states import MPS
from ...chains.terms import Cores
from ...layers.layer import Layer
from ...layers.linear import Linear
from ...layers.operator_fit import fit_operator
from ...layers.sequential import Sequential
from ...training.options import replace_values
from ...truncation import compress
from ..bonds import bonds_of, needed_bond
from ..quantics.model import start_near_identity
from ..splits import Data
from .data import load
from .options import MOST_HALVINGS, DynamicsOptions

NOISE = 0.02
"""Size of the random entries in weights that start near the identity."""


def build(options: DynamicsOptions, data: Data) -> tuple[None, Layer]:
    """Build the layers: MPOs near the identity, without bias."""
    dims, depth = (2,) * options.sites, options.layers
    bonds = bonds_of(data.train_inputs, data.val_inputs, data.test_inputs)
    batch = options.train.batch_size
    max_bond = needed_bond([(dims, dims)] * depth, bonds, options.bond_dim, options.max_bond, batch)
    layers = []
    for n in range(depth):
        seed = 100 * options.train.seed + n
        layer = Linear(dims, dims, options.bond_dim, max_bond, bias=False, seed=seed)
        start_near_identity(layer, seed, NOISE)
        layers.append(layer)
    return None, Sequential(*layers)


def carry(trained: Layer, built: Layer) -> Layer:
    """Start from a model for half the time: repeat its layers, or square them.

    Parameters
    ----------
    trained, built : Sequential of Linear
        ``built`` has as many layers, each of which is squared, or twice as many.

    Returns
    -------
    Layer
        ``built``, with new weights.
    """
    old, new = _layers(trained), _layers(built)
    if any(layer.in_dims != new[0].in_dims for layer in old):
        raise ValueError(f"it has {len(old[0].in_dims)} sites, expected {len(new[0].in_dims)}")
    if len(new) not in (len(old), 2 * len(old)):
        raise ValueError(f"it has {len(old)} layers, expected {len(new)} or {len(new) // 2}")
    for n, layer in enumerate(new):
        weight = old[n % len(old)].operators()["weight"]
        _fill(layer, squared(weight, layer.bond_dim) if len(new) == len(old) else weight)
    return built


def fit(options: DynamicsOptions, data: Data, built: Layer, show: Callable[[str], None]) -> Layer:
    """Fit a single layer for short times, without gradients, and repeat it.

    Parameters
    ----------
    options : DynamicsOptions
    data : Data
        Only its dimensions are used: samples are those of shorter times.
    built : Sequential of Linear
    show : callable
        Called with a line of text for every time.

    Returns
    -------
    Layer
        ``built``, with new weights.
    """
    dims = tuple(core.shape[2] for core in data.train_inputs)
    weight: Cores = tuple(np.eye(dim).reshape(1, dim, dim, 1) for dim in dims)
    first = min(max(options.doublings + options.halvings, options.single), MOST_HALVINGS)
    for n in range(first, options.single - 1, -1):
        if n < first:
            weight = squared(weight, options.bond_dim)
        pairs = load(replace_values(options, {"halvings": n}))
        states = MPS(pairs.train_inputs), MPS(pairs.train_targets)
        found = fit_operator(*states, MPO(weight), options.bond_dim, options.sweeps)
        weight = found.operator.cores
        show(
            f"one layer for time {options.time / 2**n:g}: mean squared error "
            f"{found.errors[-1]:.1e} after {len(found.errors)} sweeps"
        )
    for layer in _layers(built):
        _fill(layer, weight)
    return built


def squared(weight: Cores, max_bond: tuple[int, ...] | int) -> Cores:
    """Multiply an operator by itself, and compress it.

    Parameters
    ----------
    weight : tuple of array (left, out, in, right)
    max_bond : int or tuple of int

    Returns
    -------
    tuple of array (left, out, in, right)

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> w = ftnn.MPO.random((2, 2, 2), (2, 2, 2), 3, seed=0)
    >>> found = ftnn.MPO(squared(w.cores, 16)).to_dense()
    >>> bool(np.allclose(found, w.to_dense() @ w.to_dense()))
    True
    """
    cores = []
    for core in weight:
        left, out, inner, right = core.shape
        pair = np.einsum("aomb,cmid->acoibd", core, core)
        cores.append(pair.reshape(1, left**2, out * inner, right**2))
    result = compress(MPS(cores), max_bond, method="direct").cores
    return tuple(
        core.reshape(core.shape[1], *old.shape[1:3], core.shape[3])
        for core, old in zip(result, weight, strict=True)
    )


def _fill(layer: Linear, weight: Cores) -> None:
    for k, core in enumerate(weight):
        layer.params[f"weight.{k}"] = _padded(core, layer.params[f"weight.{k}"])


def _padded(core: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Pad a core to a shape with small entries: channels of zeros would have zero gradients."""
    wide = np.random.default_rng(like.size).standard_normal(like.shape)
    out = NOISE / np.sqrt(like.shape[2] * like.shape[3]) * wide
    out = out.astype(core.dtype)
    left, _, _, right = core.shape
    out[:left, :, :, :right] = core
    return out


def _layers(model: Layer) -> list[Linear]:
    layers = model.layers if isinstance(model, Sequential) else (model,)
    plain = [layer for layer in layers if isinstance(layer, Linear) and not layer.bias]
    if len(plain) < len(layers):
        raise ValueError("it has other layers than Linear without bias")
    return plain
