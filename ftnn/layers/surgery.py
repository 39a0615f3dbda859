"""Surgery on models: replace a layer, prolong a model to more sites, map old to new parameters.

Every function returns a new model; the one given is unchanged, and shares no array with it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ..chains.bonds import MaxBond
from .copies import duplicate, reconstruct
from .layer import Layer
from .signature import construct

__all__ = [
    "Block",
    "Where",
    "duplicate",
    "parameter_map",
    "path_of",
    "prolong",
    "replace",
]

Where = str | Callable[[Layer], Layer]
"""Dotted path of a layer, ``"2.layer"``, or a function that returns it, given the model."""


def replace(model: Layer, where: Where, new: Layer | Callable[[Layer], Layer]) -> Layer:
    """Replace one layer of a model.

    Parameters
    ----------
    model : Layer
    where : str or callable
        Dotted path of the layer, as in :meth:`Layer.walk`, or a function that returns it, given
        the model: ``lambda model: model.layers[2].children["layer"]``.
    new : Layer or callable
        The new layer, or a function that makes it from the old one.

    Returns
    -------
    Layer
        Layers around the new one are rebuilt by their constructors, which check that it fits; their
        arrays are kept where the shapes are unchanged, and drawn anew elsewhere.

    Raises
    ------
    ValueError
        If there is no such layer, or the new one does not fit.

    Examples
    --------
    >>> import ftnn
    >>> from ftnn.layers.surgery import replace
    >>> dims = (4, 4, 4)
    >>> model = ftnn.Sequential(ftnn.Linear(dims, dims, 2, 4), ftnn.Readout(dims, 10, 3))
    >>> replace(model, "1", ftnn.Readout(dims, 5, 3)).layers[1]
    Readout((4, 4, 4), num_outputs=5, bond_dim=3)
    """
    path = path_of(model, where)
    old = dict(_layers(model))[path]
    layer = new if isinstance(new, Layer) else new(old)
    if not isinstance(layer, Layer):
        raise TypeError(f"new is a {type(layer).__name__}, expected a Layer or a function of one")
    return _exchange(model, path.split(".") if path else [], layer)


@dataclass(frozen=True)
class Block:
    """Place of an old parameter in a new one: ``new[target]`` belongs to ``old[source]``.

    Attributes
    ----------
    name : str
        Dotted name of the old parameter.
    source, target : tuple of slice
        Slices of equal sizes, one for each axis.
    """

    name: str
    source: tuple[slice, ...]
    target: tuple[slice, ...]


def parameter_map(
    old: Layer, new: Layer, paths: Mapping[str, str] | None = None
) -> dict[str, Block]:
    """Map every new parameter to the old one that it holds, as a whole or in part.

    An optimizer needs this to keep its moments when a model grows: those of ``new[target]``
    are those of ``old[source]``, and zero elsewhere.

    Parameters
    ----------
    old, new : Layer
    paths : mapping of str to str, optional
        Maps paths of layers, or names of parameters, in ``new`` to those in ``old`` where they
        differ. By default all names are unchanged.

    Returns
    -------
    dict of str to Block
        Blocks by dotted name of the new parameter, without parameters that have no old one. A bond
        or dimension that grows keeps its old entries first; one that shrinks keeps its first
        entries.

    Examples
    --------
    >>> import ftnn
    >>> from ftnn.layers.surgery import parameter_map
    >>> small, large = (ftnn.Linear((3, 3), (3, 3), d, 4, bias=False) for d in (2, 5))
    >>> parameter_map(small, large)["weight.0"].target
    (slice(0, 1, None), slice(0, 3, None), slice(0, 3, None), slice(0, 2, None))
    """
    before, names = old.named_params(), paths or {}
    blocks = {}
    for name, array in new.named_params().items():
        origin = _old_name(name, names)
        if origin not in before or len(before[origin].shape) != len(array.shape):
            continue
        common = tuple(
            slice(0, min(int(a), int(b)))
            for a, b in zip(before[origin].shape, array.shape, strict=True)
        )
        blocks[name] = Block(origin, common, common)
    return blocks


def prolong(model: Layer, sites: int, max_bond: MaxBond | None = None) -> Layer:
    """Prolong a model to a longer chain, with identities on the new sites.

    On a quantics grid the new sites are finer scales: a finer grid consists of many shifted copies
    of the coarse one, and on functions that the coarse grid resolves, an operator that commutes
    with shifts acts equally on each copy.

    Parameters
    ----------
    model : Layer
        A :class:`ftnn.Linear`, :class:`ftnn.nonlinear.Gated` or
        :class:`ftnn.nonlinear.Elementwise`, or a :class:`ftnn.Sequential` or
        :class:`ftnn.Residual` of such layers, on NumPy. New sites have the dimension of the last
        one, which must be the same in the input and the output.
    sites : int
        Number of sites, at least that of the model.
    max_bond : int or sequence of int, optional
        Bond dimension of the layers, at all cuts or at each; by default it is unchanged, and new
        cuts get that of the last one.

    Returns
    -------
    Layer

    Examples
    --------
    >>> import ftnn
    >>> from ftnn.layers.surgery import prolong
    >>> prolong(ftnn.Linear((2, 2), (2, 2), 3, 4), sites=4)
    Linear((2, 2, 2, 2) -> (2, 2, 2, 2), bond_dim=(3, 1, 1), max_bond=4)
    """
    options, operators = model.config(), model.operators()
    if model.in_dims is not None and sites < len(model.in_dims):
        raise ValueError(f"sites is {sites}, but the model has {len(model.in_dims)} already")
    more = sites - len(model.in_dims or ())
    for name in options.keys() & {"max_bond", "inner_bond"}:
        if isinstance(options[name], list):
            options[name] = (
                max_bond if max_bond is not None else options[name] + (options[name][-1:] * more)
            )
        elif max_bond is not None and model.in_dims is not None:
            options[name] = max_bond
    if model.entrywise or (model.children and not model.params):
        children = {name: prolong(child, sites, max_bond) for name, child in model.children.items()}
        return construct(type(model), children, options)
    if not operators or model.in_dims is None or model.out_dims is None:
        raise TypeError(f"the model has a {type(model).__name__}, expected Linear and Gated")
    if model.in_dims[-1] != model.out_dims[-1]:
        raise ValueError(
            f"{type(model).__name__} maps {model.in_dims} to {model.out_dims}; identities on new "
            "sites need the same dimension on both sides, that of the last site"
        )
    dim = model.in_dims[-1]
    for name in ("in_dims", "out_dims"):
        options[name] = [*options[name], *[dim] * more]
    first = next(iter(operators.values()))
    options["bond_dim"] = [core.shape[3] for core in first[:-1]] + [1] * more
    longer = construct(type(model), {}, options)
    identity = np.eye(dim)[None, :, :, None]
    own = {f"{name}.{k}" for name in operators for k in range(sites)}
    for name, array in longer.params.items():
        new = identity if name in own else np.ones((1, 1, array.shape[2], 1))
        longer.params[name] = model.params.get(name, new).copy()
    return longer


def _layers(model: Layer) -> list[tuple[str, Layer]]:
    return [(path.rstrip("."), layer) for path, layer in model.walk()]


def path_of(model: Layer, where: Where) -> str:
    """Return the dotted path of a layer, or raise ``ValueError`` if there is none."""
    known = _layers(model)
    if isinstance(where, str):
        if where not in dict(known):
            paths = ", ".join(repr(path) for path, _ in known if path)
            raise ValueError(f"where is {where!r}, but the model has the layers {paths or 'none'}")
        return where
    layer = where(model)
    for path, candidate in known:
        if candidate is layer:
            return path
    raise ValueError(f"where returned {layer!r}, which is not a layer of the model")


def _exchange(model: Layer, path: list[str], new: Layer) -> Layer:
    """Copy a model with a new layer at a path."""
    if not path:
        return duplicate(new)
    children = {
        name: _exchange(child, path[1:], new) if name == path[0] else duplicate(child)
        for name, child in model.children.items()
    }
    return reconstruct(model, children)


def _old_name(name: str, paths: Mapping[str, str]) -> str:
    """Return the old name of a parameter, by its longest matching path prefix."""
    for path in sorted(paths, key=len, reverse=True):
        if name == path:
            return paths[path]
        if path and name.startswith(path + "."):
            return f"{paths[path]}.{name[len(path) + 1 :]}".lstrip(".")
    return name
