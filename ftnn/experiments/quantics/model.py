"""One MPO near the identity, and how a trained model is carried over to a finer grid."""

import numpy as np

from ...chains.bonds import MaxBond, largest_bond
from ...layers.layer import Layer, collect
from ...layers.linear import Linear
from ...layers.sequential import Sequential
from ...nonlinear import Gated
from ..splits import Data
from .options import QuanticsOptions


def build(options: QuanticsOptions, data: Data) -> tuple[None, Layer]:
    """Build one MPO: the operator is linear."""
    dims = (2,) * len(data.train_inputs)
    seed = options.train.seed
    layer = Linear(dims, dims, options.bond_dim, options.max_bond, bias=False, seed=10 * seed)
    start_near_identity(layer, seed)
    return None, Sequential(layer)


def start_near_identity(layer: Linear | Gated, seed: int, noise: float = 0.05) -> None:
    """Replace weights by identities, on the first bond channel, plus noise; those of gates by less.

    The solution after no time is what one starts with.
    """
    rng = np.random.default_rng((seed, 4))
    for name, old in layer.params.items():
        left, out, inn, right = old.shape
        core = noise * rng.standard_normal(old.shape) / np.sqrt(inn * right)
        core += np.eye(left, right)[:, None, None, :] * np.eye(out, inn)[:, :, None]
        share = 0.1 ** (1 / len(layer.in_dims)) if name.startswith("A.") else 1.0
        layer.params[name] = share * core


def prolong(model: Sequential, sites: int, max_bond: MaxBond | None = None) -> Sequential:
    """Carry a trained model over to a finer grid: identities on the new sites.

    A finer grid is many shifted copies of the coarse one. On functions that the coarse grid
    resolves, an operator that commutes with shifts acts on each copy alike.

    Parameters
    ----------
    model : Sequential
        Of Linear and Gated layers, on NumPy.
    sites : int
        At least as many as the model has.
    max_bond : int or sequence of int, optional
        Bond dimension of the layers, at all cuts or at each; by default it is kept, and that
        of new cuts is that of the last.
    """
    layers: list[Layer] = []
    for layer in model.layers:
        if not isinstance(layer, (Linear, Gated)):
            raise TypeError(f"the model has a {type(layer).__name__}, expected Linear and Gated")
        more = sites - len(layer.in_dims)
        if more < 0:
            raise ValueError(f"sites is {sites}, but the model has {len(layer.in_dims)} already")
        options = layer.config()
        options["in_dims"] = options["out_dims"] = [2] * sites
        weight = collect(layer.params, "weight" if isinstance(layer, Linear) else "A")
        options["bond_dim"] = [core.shape[3] for core in weight[:-1]] + [1] * more
        for name in options.keys() & {"max_bond", "inner_bond"}:
            if max_bond is not None:
                options[name] = max_bond
            elif isinstance(options[name], tuple):
                options[name] += options[name][-1:] * more
        finer = type(layer)(**options)
        identity = np.eye(2)[None, :, :, None]
        for name in finer.params:
            new = np.ones((1, 1, 2, 1)) if name.startswith("bias.") else identity
            finer.params[name] = layer.params.get(name, new)
        layers.append(finer)
    return Sequential(*layers)


def carry(trained: Layer, built: Layer) -> Layer:
    """Start with a trained model, of this grid or of a coarser one, and the bonds of ``built``."""
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
