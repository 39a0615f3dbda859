"""The classes of layers by name, and what the file that is being loaded says of their arrays."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .layer import Layer

Shapes = dict[str, tuple[int, ...]]

_PACKAGE = __package__.partition(".")[0]
_ROOMS = ("layers", "nonlinear")
"""Where the layers of this package are defined; nothing else is imported to load a file."""

_CLASSES: dict[str, type["Layer"]] = {}
_EXPECTED: ContextVar[tuple[type["Layer"], Shapes] | None] = ContextVar("expected", default=None)


def register(cls: type["Layer"]) -> None:
    """Enter a class by its name; one that bears the name of a layer of ftnn is left out."""
    known = _CLASSES.get(cls.__name__)
    if known is None or not _ships(known) or _ships(cls):
        _CLASSES[cls.__name__] = cls


def name_of(layer: "Layer") -> str:
    """Return the name under which files know the class of a layer.

    Raises
    ------
    ValueError
        If another class has that name.
    """
    _import_rooms()
    cls = type(layer)
    if _CLASSES.get(cls.__name__) is not cls:
        other = _CLASSES[cls.__name__]
        raise ValueError(
            f"{cls.__module__}.{cls.__qualname__} has the name of another layer, "
            f"{other.__module__}.{other.__qualname__}, which a file would be loaded as; rename it"
        )
    return cls.__name__


def class_of(name: object) -> type["Layer"]:
    """Return the class of a name in a file.

    Raises
    ------
    ValueError
        If no class of that name has been defined.
    """
    _import_rooms()
    if not isinstance(name, str) or name not in _CLASSES:
        raise ValueError(
            f"unknown layer type {name!r}; if it is a layer of your own, define or import its "
            "class before loading"
        )
    return _CLASSES[name]


@contextmanager
def expecting(cls: type["Layer"], shapes: Shapes) -> Iterator[None]:
    """Within it, the next ``cls`` that declares its arrays must declare these."""
    token = _EXPECTED.set((cls, shapes))
    try:
        yield
    finally:
        _EXPECTED.reset(token)


def check_expected(cls: type["Layer"], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ``ValueError`` if arrays about to be made are not those of :func:`expecting`."""
    expected = _EXPECTED.get()
    if expected is None or expected[0] is not cls:
        return
    _EXPECTED.set(None)  # a constructor may make other layers
    for name, shape in shapes.items():
        if name not in expected[1]:
            raise ValueError(f"array {name!r} of a {cls.__name__} is missing")
        if expected[1][name] != tuple(shape):
            raise ValueError(
                f"array {name!r} of a {cls.__name__} has shape {expected[1][name]}, but its "
                f"description asks for {tuple(shape)}"
            )


def _ships(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == _PACKAGE


def _import_rooms() -> None:
    for room in _ROOMS:
        import_module(f"{_PACKAGE}.{room}")
