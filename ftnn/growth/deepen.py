"""deepen: one more layer; and a layer that starts as the identity."""

from collections.abc import Sequence

import numpy as np
from autoray import get_dtype_name, infer_backend

from ..arrays.backend import as_like, device_of
from ..chains.bonds import MaxBond
from ..chains.dims import check_dims
from ..layers.copies import copy_array, duplicate, reconstruct
from ..layers.layer import Layer, collect
from ..layers.linear import Linear
from ..layers.readouts import Head
from ..layers.sequential import Sequential
from ..layers.surgery import Where, path_of, replace
from .axes import NOISE, axes_of, draws, padded
from .where import check_model

NEW = "(new)"
"""What :func:`deepened_paths` maps layers to that have no old one."""


def deepen(model: Layer, layer: Layer, after: Where) -> Layer:
    """Return a model with one more layer.

    Parameters
    ----------
    model : Layer
        It is unchanged.
    layer : Layer
        What is added, as a copy: one near the identity (:func:`identity`), with which the function
        is the same; or a layer of the model, of an evolution that repeats,
        ``deepen(model, model.layers[0], after="0")``. It is moved to the backend, dtype and device
        of the model.
    after : str or callable
        Dotted path of the layer that it follows, or a function that returns that, given the model.
        In a :class:`ftnn.Sequential` the layers behind it move on by one; the path of a
        ``Sequential`` means its end. Any other layer is put in a ``Sequential`` with the new one.

    Returns
    -------
    Layer
        A new model that shares no array with the given one.

    Raises
    ------
    TypeError, ValueError
        If there is no such layer, it has dense outputs, or dimensions do not match.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> dims = (3, 3, 3)
    >>> model = ftnn.Sequential(
    ...     ftnn.Linear(dims, dims, 2, 9), ftnn.nonlinear.KAN(dims), ftnn.Readout(dims, 4, 3)
    ... )
    >>> new = ftnn.growth.identity(dims, bond_dim=2, gauge=model.layers[0])
    >>> deeper = ftnn.growth.deepen(model, new, after="0")
    >>> x = ftnn.MPS.from_dense(np.random.default_rng(0).standard_normal((5, 27)), dims)
    >>> len(deeper.layers), bool(np.allclose(deeper(x), model(x)))
    (4, True)
    """
    check_model(model)
    check_model(layer, "layer")
    path = path_of(model, after)
    found = {name.rstrip("."): part for name, part in model.walk()}
    parent, _, last = path.rpartition(".")
    old = found[path]
    if isinstance(old, Sequential):
        layers, place = old.layers, len(old.layers)
        target = path
    elif path and isinstance(found[parent], Sequential):
        layers, place = found[parent].layers, int(last) + 1  # type: ignore[attr-defined]
        target = parent
    else:
        layers, place, target = (old,), 1, path
    _check(layer, layers, place, path)
    added = duplicate(layer).train(model.training)
    like = next(iter(model.named_arrays().values()), None)
    if like is not None:
        added.to(infer_backend(like), get_dtype_name(like), device_of(like))
    parts = [*layers[:place], added, *layers[place:]]
    if isinstance(found[target], Sequential):
        new = reconstruct(found[target], {str(n): part for n, part in enumerate(parts)})
    else:
        new = Sequential(*parts).train(old.training)
    return replace(model, target, new)


def deepened_paths(model: Layer, after: Where) -> dict[str, str]:
    """Return where the layers of ``deepen(model, layer, after)`` come from.

    Parameters
    ----------
    model : Layer
        Before.
    after : str or callable
        As given to :func:`deepen`.

    Returns
    -------
    dict of str to str
        Paths in the new model to those in the old one, where they differ, as
        :func:`ftnn.layers.surgery.parameter_map` takes them.

    Examples
    --------
    >>> import ftnn
    >>> model = ftnn.Sequential(ftnn.nonlinear.RMSNorm(), ftnn.Readout((3, 3), 4, 3))
    >>> ftnn.growth.deepened_paths(model, after="0")
    {'1': '(new)', '2': '1'}
    """
    path = path_of(model, after)
    found = {name.rstrip("."): part for name, part in model.walk()}
    parent, _, last = path.rpartition(".")
    old, around = found[path], found[parent]
    if isinstance(old, Sequential):
        return {_inner(path, len(old.layers)): NEW}
    if not path or not isinstance(around, Sequential):
        return {_inner(path, 0): path, _inner(path, 1): NEW}
    first = int(last) + 1
    moved = {_inner(parent, n + 1): _inner(parent, n) for n in range(first, len(around.layers))}
    return {_inner(parent, first): NEW} | moved


def identity(
    dims: Sequence[int],
    bond_dim: MaxBond = 1,
    max_bond: MaxBond | None = None,
    gauge: Layer | None = None,
    bias: bool = True,
    seed: int = 0,
) -> Linear:
    """Return a :class:`ftnn.Linear` that starts as the identity.

    Parameters
    ----------
    dims : sequence of int
        Physical dimensions of input and output.
    bond_dim : int or sequence of int
        Of the weight; channels beyond the one of the identity start as those of :func:`inflate`.
    max_bond : int or sequence of int, optional
        Of the output, which is truncated if the input has a larger bond; by default that of
        ``gauge``.
    gauge : Layer, optional
        A layer of the same output dimensions that truncates, whose test matrices it takes: cores
        that come from it are then unchanged, as a function of cores behind it needs; also its
        backend and dtype.
    bias : bool
        With a bias that starts at zero.
    seed : int

    Returns
    -------
    Linear

    Raises
    ------
    TypeError, ValueError
        If ``gauge`` has no test matrices for these dimensions, or no bond is given.

    Examples
    --------
    >>> import ftnn
    >>> layer = ftnn.growth.identity((3, 3), max_bond=3)
    >>> bool((layer.to_dense()[0] == __import__("numpy").eye(9)).all())
    True
    """
    dims = check_dims(dims, "dims")
    omegas = () if gauge is None else collect(gauge.buffers, "omega")
    if gauge is not None and [int(w.shape[1]) for w in omegas] != list(dims[:-1]):
        raise ValueError(
            f"gauge is a {type(gauge).__name__} with test matrices of {len(omegas)} sites, but "
            f"dims is {dims}; give the Linear, Residual or Gated whose output the layer gets"
        )
    if max_bond is None:
        if gauge is None:
            raise ValueError("neither max_bond nor gauge is given; give one of them")
        max_bond = getattr(gauge, "max_bond", None)
        if max_bond is None:
            raise ValueError(f"gauge is a {type(gauge).__name__} without max_bond; give max_bond")
    layer = Linear(dims, dims, bond_dim, max_bond, bias=bias, seed=seed)
    draw, noise = draws(seed), NOISE * min(1.0, 2.0 / len(dims))
    for k, dim in enumerate(dims):
        name, eye = f"weight.{k}", np.eye(dim)[None, :, :, None]
        new = layer.params[name]
        grown = padded(eye, new, axes_of(layer, name, 4), draw, noise)
        layer.params[name] = grown
    for k, omega in enumerate(omegas):
        own = layer.buffers[f"omega.{k}"]
        rows = min(len(own), len(omega))
        new = as_like(own, omega)
        new[:rows] = copy_array(omega)[:rows]
        layer.buffers[f"omega.{k}"] = new
    if omegas:
        for name, array in layer.params.items():
            layer.params[name] = as_like(array, omegas[0])
    return layer


def _inner(path: str, name: int) -> str:
    return f"{path}.{name}".lstrip(".")


def _check(layer: Layer, layers: Sequence[Layer], place: int, path: str) -> None:
    """Raise ``ValueError`` unless the layer fits between those before and those behind."""
    if isinstance(layers[place - 1], Head):
        kind = type(layers[place - 1]).__name__
        raise ValueError(
            f"after is {path!r}, a {kind}, whose outputs have no sites; give the layer before it"
        )
    before = next((part.out_dims for part in layers[place - 1 :: -1] if part.out_dims), None)
    behind = next((part.in_dims for part in layers[place:] if part.in_dims), None)
    result = layer.out_dims if layer.in_dims is not None else before
    if before and layer.in_dims and before != layer.in_dims:
        raise ValueError(
            f"layer takes phys_dims {layer.in_dims}, but {path!r} returns {before}; give a layer "
            "of these dimensions"
        )
    if isinstance(layer, Head) and place < len(layers):
        raise ValueError(
            f"layer is a {type(layer).__name__}, but there are layers behind {path!r}; give one "
            "that returns states"
        )
    if behind and result and behind != result:
        raise ValueError(
            f"layer returns phys_dims {result}, but the layer behind {path!r} takes {behind}; give "
            "a layer of these dimensions"
        )
