"""Copies of models: whole ones, and layers made anew with other arguments or sublayers."""

import copy
from collections.abc import Callable, Mapping
from typing import Any

from autoray import infer_backend

from ..arrays.backend import Array
from .layer import Layer
from .signature import VARIADIC, arguments, construct, parameters

Fill = Callable[[str, Array | None, Array], Array]
"""Maps the name of an array, the old one if any, and the new one, of another shape, to its values.
"""

_SETTINGS = ("training", "recompute", "frozen")


def duplicate(model: Layer, change: Callable[[Array], Array] | None = None) -> Layer:
    """Copy a model with all its arrays.

    Parameters
    ----------
    model : Layer
    change : callable, optional
        Maps an old array to a new one; by default a copy, detached from any gradient graph.

    Returns
    -------
    Layer

    Examples
    --------
    >>> import ftnn
    >>> from ftnn.layers.copies import duplicate
    >>> model = ftnn.Readout((2, 2), 3, bond_dim=2)
    >>> twin = duplicate(model)
    >>> twin.params["weight.0"][:] = 0.0
    >>> bool(model.params["weight.0"].any())
    True
    """
    change = change or copy_array
    twin = copy.copy(model)
    for name, value in vars(model).items():
        if name in ("params", "buffers"):
            setattr(twin, name, {key: change(array) for key, array in value.items()})
        elif name == "children":
            twin.children = {key: duplicate(child, change) for key, child in value.items()}
        else:
            setattr(twin, name, copy.deepcopy(value))
    return twin


def reconstruct(
    layer: Layer,
    children: Mapping[str, Layer] | None = None,
    options: Mapping[str, Any] | None = None,
    fill: Fill | None = None,
    origin: Callable[[str], str | None] | None = None,
) -> Layer:
    """Make a layer anew by its constructor, and carry its arrays over.

    Parameters
    ----------
    layer : Layer
        It is unchanged.
    children : mapping of str to Layer, optional
        Its sublayers, which become part of the new one; by default copies of its own.
    options : mapping of str to object, optional
        Arguments that differ.
    fill : callable, optional
        ``fill(name, old, new)`` returns the values of an array whose shape is not the old one, or
        that is new, where ``old`` is None; by default it stays as the constructor makes it.
    origin : callable, optional
        ``origin(name)`` returns the old name of an array, None for a new one; by default names are
        unchanged.

    Returns
    -------
    Layer
        Settings (mode, recomputation, what is frozen) are kept.

    Examples
    --------
    >>> import ftnn
    >>> from ftnn.layers.copies import reconstruct
    >>> reconstruct(ftnn.Linear((2, 2), (2, 2), 3, 4), options={"max_bond": 2})
    Linear((2, 2) -> (2, 2), bond_dim=3, max_bond=2)
    """
    if children is None:
        children = {name: duplicate(child) for name, child in layer.children.items()}
    own = parameters(type(layer))
    given = {parameter.name for parameter in own}
    variadic = any(parameter.kind in VARIADIC for parameter in own)
    if not options and children and not variadic and not given & children.keys():
        twin = duplicate(layer)  # sublayers that the constructor itself made
        twin.children |= children
        return twin
    twin = construct(type(layer), dict(children), arguments(layer) | dict(options or {}))
    twin.children |= {name: children[name] for name in twin.children.keys() & children.keys()}
    for store, before in ((twin.params, layer.params), (twin.buffers, layer.buffers)):
        for name, array in store.items():
            old = before.get(name if origin is None else origin(name))  # type: ignore[arg-type]
            if old is not None and tuple(old.shape) == tuple(array.shape):
                store[name] = copy_array(old)
            elif fill is not None:
                store[name] = fill(name, old, array)
    settings = {
        name: copy.deepcopy(value) for name, value in vars(layer).items() if name in _SETTINGS
    }
    vars(twin).update(settings)
    if layer.frozen and origin is not None:
        twin.frozen = frozenset(name for name in twin.params if origin(name) in layer.frozen)
    return twin


def copy_array(array: Array) -> Array:
    """Copy an array, without its gradient graph."""
    if infer_backend(array) == "torch":
        return array.detach().clone()
    return array.copy()
