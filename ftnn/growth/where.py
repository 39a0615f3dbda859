"""Which layers of a model an operation is for, and the walk that makes a model anew."""

from collections.abc import Callable, Sequence

from ..layers.copies import duplicate, reconstruct
from ..layers.layer import Layer
from ..layers.surgery import Where, path_of

Places = Where | Sequence[Where] | None
"""Dotted paths of layers, functions that return layers given the model, or None for all."""


def chosen(model: Layer, where: Places) -> dict[str, Layer]:
    """Return the layers that are named, and all inside them, by dotted path.

    Parameters
    ----------
    model : Layer
    where : str, callable, sequence of them, or None
        See :data:`Places`.

    Raises
    ------
    TypeError, ValueError
        If the model or a place is something else, or there is no such layer.
    """
    check_model(model)
    known = {path.rstrip("."): layer for path, layer in model.walk()}
    if where is None:
        return known
    places = [where] if isinstance(where, str) or callable(where) else where
    if not isinstance(places, (list, tuple, set, frozenset)) or not places:
        raise TypeError(
            f"where is {where!r}, expected the dotted path of a layer, a function that returns it, "
            "a sequence of them, or None for all layers"
        )
    roots = [path_of(model, place) for place in places]
    return {path: layer for path, layer in known.items() if any(_is_in(path, r) for r in roots)}


def check_model(model: object, argument: str = "model") -> None:
    """Raise ``TypeError`` unless this is a layer."""
    if not isinstance(model, Layer):
        raise TypeError(
            f"{argument} is a {type(model).__name__}, expected an ftnn.Layer; of a TorchModule "
            "take its .model"
        )


def rebuilt(
    model: Layer, change: Callable[[str, Layer, dict[str, Layer]], Layer | None], path: str = ""
) -> Layer:
    """Make a model anew, from the innermost layers outwards.

    Parameters
    ----------
    model : Layer
    change : callable
        ``change(path, layer, children)`` returns the new layer, given its path, the old one and its
        new sublayers; None for one that is only to be copied.
    path : str
        Of the model within a larger one.
    """
    children = {
        name: rebuilt(child, change, f"{path}.{name}".lstrip("."))
        for name, child in model.children.items()
    }
    new = change(path, model, children)
    if new is not None:
        return new
    return reconstruct(model, children) if children else duplicate(model)


def check_frozen(
    path: str, old: Layer, new: Layer, origin: Callable[[str], str | None] | None = None
) -> None:
    """Raise ``ValueError`` if the shape of a frozen array changes; ``origin`` is its old name."""
    for new_name in sorted(new.frozen):
        name = new_name if origin is None else origin(new_name) or new_name
        before, after = tuple(old.params[name].shape), tuple(new.params[new_name].shape)
        if before != after:
            where = f"{path}.{name}".lstrip(".")
            raise ValueError(
                f"array {where!r} is frozen, but its shape would change from {before} to {after}; "
                f"thaw it first: ftnn.growth.thaw(model, {where!r}), or name other layers in where"
            )


def _is_in(path: str, root: str) -> bool:
    return not root or path == root or path.startswith(root + ".")
