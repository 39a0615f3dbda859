"""freeze and thaw: which arrays are trained."""

from collections.abc import Sequence

from ..layers.copies import duplicate
from ..layers.layer import Layer
from ..layers.surgery import Where, path_of
from .where import check_model


def freeze(model: Layer, where: Where | Sequence[Where]) -> Layer:
    """Return a model whose arrays at these places are not trained.

    Parameters
    ----------
    model : Layer
        It is unchanged.
    where : str, callable or sequence of them
        Dotted path of a layer, ``"2.layer"``, with all inside of it; of an array, ``"2.weight.3"``
        for one core; of all cores of a weight, ``"2.weight"``; the empty path for the whole model;
        or a function that returns a layer, given the model.

    Returns
    -------
    Layer
        The same function, which shares no array with the given model. Frozen arrays are listed in
        ``frozen`` of their layers. In :class:`ftnn.training.TorchModule` they are buffers: an
        optimizer does not see them, and changes them neither by gradients nor by weight decay.
        Files keep what is frozen.

    Raises
    ------
    TypeError, ValueError
        If there is no such place, or nothing at it that could be trained.

    Notes
    -----
    An operation that would change the shape of a frozen array raises an error. Cores that are
    inserted next to frozen ones (:func:`insert_sites`) are trained.

    Examples
    --------
    >>> import ftnn
    >>> model = ftnn.Sequential(ftnn.Linear((3, 3), (3, 3), 2, 3), ftnn.Readout((3, 3), 4, 3))
    >>> model = ftnn.growth.freeze(model, ["0.weight.1", "1"])
    >>> sorted(model.named_params())
    ['0.bias.0', '0.bias.1', '0.weight.0']
    >>> len(ftnn.growth.thaw(model, "").named_params())
    6
    """
    return _changed(model, where, True)


def thaw(model: Layer, where: Where | Sequence[Where] = "") -> Layer:
    """Return a model whose arrays at these places are trained again.

    Parameters
    ----------
    model : Layer
        It is unchanged.
    where : str, callable or sequence of them
        As for :func:`freeze`; by default the whole model.

    Returns
    -------
    Layer
        The same function, which shares no array with the given model.

    Raises
    ------
    TypeError, ValueError
        If there is no such place, or nothing at it that could be trained.

    Examples
    --------
    >>> import ftnn
    >>> frozen = ftnn.growth.freeze(ftnn.Readout((3, 3), 4, 3), "")
    >>> sorted(ftnn.growth.thaw(frozen, "weight.0").named_params())
    ['weight.0']
    """
    return _changed(model, where, False)


def _changed(model: Layer, where: Where | Sequence[Where], frozen: bool) -> Layer:
    """Copy a model, with the arrays at these places frozen or not."""
    check_model(model)
    places = [where] if isinstance(where, str) or callable(where) else where
    if not isinstance(places, (list, tuple, set, frozenset)) or not places:
        raise TypeError(
            f"where is {where!r}, expected the dotted path of a layer or an array, a function that "
            "returns a layer, or a sequence of them"
        )
    twin = duplicate(model)
    owners = {
        f"{path}{name}": (layer, name) for path, layer in twin.walk() for name in layer.params
    }
    for place in places:
        path = place if isinstance(place, str) else path_of(model, place)
        found = [full for full in owners if not path or (full + ".").startswith(path + ".")]
        if not found:
            raise ValueError(
                f"where is {place!r}, but the model has no parameters there; it has "
                f"{', '.join(map(repr, _shortened(owners))) or 'none'}"
            )
        for full in found:
            layer, name = owners[full]
            layer.frozen = layer.frozen | {name} if frozen else layer.frozen - {name}
    return twin


def _shortened(names: dict[str, tuple[Layer, str]]) -> list[str]:
    """Return a few names, for an error."""
    known = list(names)
    return known if len(known) <= 8 else [*known[:8], "..."]
