"""The arguments of a layer's constructor, read back from the layer."""

import inspect
from collections.abc import Callable
from functools import lru_cache
from inspect import Parameter
from typing import TYPE_CHECKING, Any, cast

import numpy as np

if TYPE_CHECKING:
    from .layer import Layer

VARIADIC = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


@lru_cache
def parameters(cls: type) -> tuple[Parameter, ...]:
    """Return the parameters of the constructor of a class, without ``self``."""
    return tuple(inspect.signature(cls.__init__).parameters.values())[1:]  # type: ignore[misc]


def arguments(layer: "Layer") -> dict[str, Any]:
    """Return the arguments of the constructor that are not layers, by name.

    Parameters
    ----------
    layer : Layer

    Returns
    -------
    dict of str to object
        Current values of the attributes with these names.

    Raises
    ------
    TypeError
        If there is no such attribute.
    """
    values = {}
    for parameter in parameters(type(layer)):
        name = parameter.name
        if name in layer.children or parameter.kind in VARIADIC:
            continue
        if not hasattr(layer, name):
            kind = type(layer).__name__
            raise TypeError(
                f"{kind} does not store its argument {name!r}; set self.{name} in its constructor, "
                f'or self.children["{name}"] if it is a layer'
            )
        values[name] = getattr(layer, name)
    return values


def json_arguments(layer: "Layer") -> dict[str, Any]:
    """Return :func:`arguments` as JSON types, or raise ``ValueError`` for what is not data."""
    return {name: _as_json(value, name, layer) for name, value in arguments(layer).items()}


def construct(cls: type["Layer"], children: dict[str, "Layer"], config: dict[str, Any]) -> "Layer":
    """Call the constructor with the result of :func:`arguments`, and with layers as children.

    Parameters
    ----------
    cls : type
    children : dict of str to Layer
        Children whose names are arguments are passed by name, and all in order to a constructor
        with ``*layers``; other children are made by the constructor.
    config : dict of str to object
    """
    own, make = parameters(cls), cast("Callable[..., Layer]", cls)
    if any(parameter.kind is Parameter.VAR_POSITIONAL for parameter in own):
        return make(*children.values(), **config)
    names = {parameter.name for parameter in own}
    return make(**{name: layer for name, layer in children.items() if name in names}, **config)


def _as_json(value: Any, name: str, layer: "Layer") -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, np.generic):
        return _as_json(value.item(), name, layer)
    if isinstance(value, (tuple, list)):
        return [_as_json(entry, name, layer) for entry in value]
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {key: _as_json(entry, name, layer) for key, entry in value.items()}
    if callable(value):
        raise ValueError(
            f"{name} of a {type(layer).__name__} is a callable, which a file of data cannot hold; "
            "use one of the named functions"
        )
    raise ValueError(
        f"{name} of a {type(layer).__name__} is a {type(value).__name__}, which a file cannot "
        "hold as an argument; give numbers, strings or sequences of them, and keep arrays in "
        "params or buffers"
    )
