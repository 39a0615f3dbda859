"""One MPO near the identity, and the transfer of a trained model to a finer grid."""

import numpy as np

from ...chains.bonds import largest_bond
from ...layers.layer import Layer
from ...layers.linear import Linear
from ...layers.sequential import Sequential
from ...layers.surgery import prolong
from ...nonlinear import Gated
from ..bonds import bonds_of, needed_bond
from ..splits import Data
from .options import QuanticsOptions


def build(options: QuanticsOptions, data: Data) -> tuple[None, Layer]:
    """Build one MPO: the operator is linear."""
    dims = (2,) * len(data.train_inputs)
    seed, batch = options.train.seed, options.train.batch_size
    bonds = bonds_of(data.train_inputs, data.val_inputs, data.test_inputs)
    max_bond = needed_bond([(dims, dims)], bonds, options.bond_dim, options.max_bond, batch)
    layer = Linear(dims, dims, options.bond_dim, max_bond, bias=False, seed=10 * seed)
    start_near_identity(layer, seed)
    return None, Sequential(layer)


def start_near_identity(layer: Linear | Gated, seed: int, noise: float = 0.05) -> None:
    """Replace weights by identities, on the first bond channel, plus noise; those of gates by less.

    At time zero the solution is the initial function.
    """
    rng = np.random.default_rng((seed, 4))
    for name, old in layer.params.items():
        left, out, inn, right = old.shape
        core = noise * rng.standard_normal(old.shape) / np.sqrt(inn * right)
        core += np.eye(left, right)[:, None, None, :] * np.eye(out, inn)[:, :, None]
        share = 0.1 ** (1 / len(layer.in_dims)) if name.startswith("A.") else 1.0
        layer.params[name] = share * core


def carry(trained: Layer, built: Layer) -> Layer:
    """Start from a trained model on this grid or a coarser one, with the bonds of ``built``."""
    if _kinds(trained) != _kinds(built):
        raise ValueError(f"its layers are {_kinds(trained)}, expected {_kinds(built)}")
    assert isinstance(trained, Sequential)
    assert isinstance(built, Sequential)
    own, layer = trained.layers[0], built.layers[0]
    assert isinstance(own, (Linear, Gated))
    assert isinstance(layer, (Linear, Gated))
    if len(own.in_dims) > len(layer.in_dims):
        raise ValueError(
            f"its grid has 2^{len(own.in_dims)} points, and training begins on "
            f"2^{len(layer.in_dims)}"
        )
    return prolong(trained, len(layer.in_dims), layer.max_bond)


def _kinds(model: Layer) -> str:
    layers = model.layers if isinstance(model, Sequential) else (model,)
    bonds = (largest_bond(getattr(layer, "bond_dim", 1)) for layer in layers)
    return ", ".join(
        f"{type(layer).__name__} with D = {bond}" for layer, bond in zip(layers, bonds, strict=True)
    )
