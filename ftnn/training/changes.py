"""One change of a model: an event of a schedule, carried out."""

from collections.abc import Mapping

from ..chains.bonds import MaxBond
from ..chains.states import MPS
from ..growth import deepen, freeze, identity, inflate, prune, thaw, widen
from ..growth.deepen import deepened_paths
from ..growth.where import chosen
from ..layers.layer import Layer
from ..layers.signature import arguments
from .schedule import BONDS, Event

_ARGUMENTS = {"inflate": "bond_dim", "max_bond": "max_bond"}


def changed(
    model: Layer, event: Event, places: list[str] | None = None, data: MPS | None = None
) -> tuple[Layer, dict[str, str]]:
    """Return a changed model, and where its layers come from if their paths are others.

    Parameters
    ----------
    model : Layer
    event : Event
    places : list of str, optional
        Layers whose bonds grow, in place of ``event.where``.
    data : MPS, optional
        Inputs, by which bonds are pruned.
    """
    paths: dict[str, str] = {}
    where = [event.where] if event.where is not None and places is None else places
    for name, value in event.changes.items():
        match name:
            case "inflate" | "max_bond":
                model = _inflated(model, name, value, where)
            case "widen":
                model = widen(model, int(value), where)
            case "freeze":
                model = freeze(model, value)
            case "thaw":
                model = thaw(model, value)
            case "deepen" | "repeat":
                new = deepened_paths(model, value)
                paths = {path: _old(old, paths) for path, old in new.items()}
                model = deepen(model, _layer(model, value, name), value)
            case "prune":
                assert data is not None
                model = prune(model, data, params=value).model
    return model, paths


def _old(path: str, paths: Mapping[str, str]) -> str:
    return paths.get(path, path)


def _layer(model: Layer, path: str, name: str) -> Layer:
    """Return the layer that is inserted behind one: its copy, or one near the identity."""
    layers = {own.rstrip("."): layer for own, layer in model.walk()}
    layer = layers[path]
    if name == "repeat":
        return layer
    if layer.out_dims is None:
        raise ValueError(
            f"deepen is {path!r}, a {type(layer).__name__} without sites; give a Linear"
        )
    bond = arguments(layer).get("bond_dim", 1)
    return identity(layer.out_dims, bond if bond is not None else 1, gauge=layer)


def _inflated(model: Layer, name: str, value: str, where: list[str] | None) -> Layer:
    """Enlarge bonds to a size, where they are smaller, or all by as much."""
    argument = _ARGUMENTS[name]
    layers = {path.rstrip("."): layer for path, layer in model.walk()}
    inside = list(layers if where is None else chosen(model, where))
    bonds = {path: _bond(layers[path], argument, where is None) for path in inside}
    sizes = {path: _sized(bond, value) for path, bond in bonds.items() if bond is not None}
    larger = {path: size for path, size in sizes.items() if size != bonds[path]}
    if not larger:
        found = ", ".join(f"{bond} of {path!r}" for path, bond in bonds.items() if bond is not None)
        raise ValueError(f"no bond is smaller than {value}: {found or 'there is none'}; give more")
    for path, size in larger.items():
        weight, activation = (size, None) if name == "inflate" else (None, size)
        model = inflate(model, weight, activation, path)
    return model


def _sized(bond: MaxBond, value: str) -> MaxBond:
    """Return a bond that is enlarged, or as it was if it is not smaller."""
    bonds = (bond,) if isinstance(bond, int) else bond
    adds = value.startswith("+")
    new = tuple(one + int(value) if adds else max(one, int(value)) for one in bonds)
    return new[0] if isinstance(bond, int) else new


def _bond(layer: Layer, argument: str, anywhere: bool) -> MaxBond | None:
    """Return the bond of a layer that has one of its own; that of a constant only if named."""
    if getattr(layer, argument, None) is None:
        return None
    own = arguments(layer)
    return None if anywhere and argument == "bond_dim" and "affine" in own else own.get(argument)


def candidates(model: Layer, event: Event) -> list[str]:
    """Return the paths of layers whose bond can grow as an event says."""
    (name,) = (one for one in event.changes if one in BONDS)
    found = []
    for path, layer in model.walk():
        place = path.rstrip(".")
        if _bond(layer, _ARGUMENTS[name], True) is None:
            continue
        try:
            changed(model, event, [place])
        except ValueError:  # large enough, or frozen
            continue
        found.append(place)
    return found
