"""Layer classes by name, and the arrays that a file being loaded declares for them."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .layer import Layer

Shapes = dict[str, tuple[int, ...]]

_PACKAGE = __package__.partition(".")[0]
_ROOMS = ("layers", "nonlinear", "experiments.compression.model")
"""Modules that define the layers of this package; nothing else is imported to load a file."""

_CLASSES: dict[str, type["Layer"]] = {}
_EXPECTED: ContextVar[tuple[type["Layer"], Shapes] | None] = ContextVar("expected", default=None)


def register_layer(cls: type["Layer"]) -> None:
    """Register a class by its name; one with the name of an ftnn layer is ignored."""
    known = _CLASSES.get(cls.__name__)
    if known is None or not _ships(known) or _ships(cls):
        _CLASSES[cls.__name__] = cls


def name_of(layer: "Layer") -> str:
    """Return the name of the class of a layer in files.

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
            f"unknown layer type {name!r}; if it is your own layer, define or import its "
            "class before loading"
        )
    return _CLASSES[name]


@contextmanager
def expecting(cls: type["Layer"], shapes: Shapes) -> Iterator[None]:
    """Require the next ``cls`` to declare exactly these arrays; a context manager."""
    token = _EXPECTED.set((cls, shapes))
    try:
        yield
    finally:
        _EXPECTED.reset(token)


def check_expected(cls: type["Layer"], shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Raise ``ValueError`` if arrays about to be allocated are not those of :func:`expecting`."""
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
                f"description needs {tuple(shape)}"
            )


def _ships(cls: type) -> bool:
    return cls.__module__.partition(".")[0] == _PACKAGE


def _import_rooms() -> None:
    for room in _ROOMS:
        import_module(f"{_PACKAGE}.{room}")
