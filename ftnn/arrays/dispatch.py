"""One function, one implementation for each backend: autoray's dispatch, with backends loaded late.

A function marked by :func:`dispatched` is its own default implementation. The module of a backend
(``_torch``, ``_jax``, ``_cupy``) registers others by :func:`implementation`; it is the only place
that imports the library. :func:`load_backend` imports it once, on the first array of the backend.
Functions import each other downwards only, and nothing imports the module of a backend.
"""

from collections.abc import Callable
from functools import wraps
from importlib import import_module
from typing import Any, TypeVar

from autoray import compose, get_lib_fn, infer_backend, register_function

F = TypeVar("F", bound=Callable[..., Any])

_MODULES = {"torch": "._torch", "jax": "._jax", "cupy": "._cupy"}
_loaded: set[str] = set()
_registered: set[tuple[str, str]] = set()
_makers: dict[str, Callable[[str], Callable[..., Any]]] = {}
"""Factories of the default implementation of every function, by its name in autoray."""
_names: dict[Callable[..., Any], str] = {}


def dispatched(default: F | None = None, *, key: Callable[..., Any] | None = None) -> Any:
    """Make a function whose implementation depends on the backend of an argument.

    Parameters
    ----------
    default : callable
        Implementation for backends that register no other.
    key : callable, optional
        Maps the arguments to the array, or backend name, that decides; by default the first
        argument.

    Examples
    --------
    >>> import numpy as np
    >>> @dispatched
    ... def twice(x):
    ...     return x + x
    >>> int(twice(np.array(2)))
    4
    >>> @implementation("numpy", twice)
    ... def _(x):
    ...     return 2 * x + 0
    >>> int(twice(np.array(2)))
    4
    """
    if default is None:
        return lambda function: dispatched(function, key=key)
    return dispatch(default, lambda _: default, key)


def dispatch(
    function: F, make: Callable[[str], Callable[..., Any]], key: Callable[..., Any] | None = None
) -> F:
    """Make a function that calls ``make(backend)``, made once for each backend.

    Parameters
    ----------
    function : callable
        Provides the name, signature and documentation of the new function.
    make : callable
        Maps the name of a backend to the implementation there.
    key : callable, optional
        As in :func:`dispatched`.
    """
    name = f"{function.__module__}.{function.__qualname__}"
    name += f" {len(_makers)}" if name in _makers else ""
    _makers[name] = make

    def first_call(*args: Any, backend: str, **options: Any) -> Any:
        load_backend(backend)
        return get_lib_fn(backend, name)(*args, **options)

    compose(first_call, name=name)  # what autoray calls until the backend is loaded
    for backend in _loaded:
        register_function(backend, name, make(backend))

    @wraps(function)
    def call(*args: Any, **options: Any) -> Any:
        like = args[0] if key is None else key(*args, **options)
        backend = like if isinstance(like, str) else infer_backend(like)
        return get_lib_fn(backend, name)(*args, **options)

    _names[call] = name
    return call  # type: ignore[return-value]


def implementation(backend: str, function: Callable[..., Any]) -> Callable[[F], F]:
    """Register the decorated function as the implementation of ``function`` on a backend."""
    name = _names[function]

    def register(other: F) -> F:
        register_function(backend, name, other)
        _registered.add((backend, name))
        return other

    return register


def load_backend(backend: str) -> None:
    """Import the module of a backend, and register an implementation of every function for it.

    Called on the first array of a backend. torch.compile cannot trace imports: compiled code calls
    this beforehand.
    """
    if backend in _loaded:
        return
    if backend in _MODULES:
        import_module(_MODULES[backend], __package__)
    for name, make in _makers.items():
        if (backend, name) not in _registered:
            register_function(backend, name, make(backend))
    _loaded.add(backend)
