"""Encoder: the base class of maps from data to batched states."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Self, final

import numpy as np

from ..arrays.backend import to_numpy
from ..chains.cores import check_cores
from ..chains.states import MPS
from ..chains.terms import Cores


class Encoder(ABC):
    """A map from data to states, fitted once on training data and saved with the model.

    A subclass sets ``phys_dims`` and ``buffers``, stores every argument of its constructor as an
    attribute of the same name (of JSON types, NumPy numbers or tuples), and defines :meth:`encode`;
    also :meth:`fit` if it learns from data, :meth:`check` to reject data early, and
    :meth:`reconstruct` if there is an inverse. Subclasses are registered by class name:
    :func:`ftnn.load_encoder` looks them up there.

    Attributes
    ----------
    phys_dims : tuple of int
        Physical dimensions of the states; empty before :meth:`fit` if they depend on the data.
    buffers : dict of str to numpy.ndarray
        Fitted arrays.
    registry : dict of str to type
        Encoder classes by name.

    Examples
    --------
    >>> import numpy as np
    >>> class Spins(Encoder):
    ...     def __init__(self, sites):
    ...         super().__init__()
    ...         self.sites = sites
    ...         self.phys_dims = (2,) * sites
    ...     def encode(self, data):
    ...         return tuple(np.eye(2)[bits][:, None, :, None] for bits in data.T)
    >>> x = Spins(3)(np.array([[0, 1, 1], [1, 0, 0]]))
    >>> x.to_dense().argmax(axis=1).tolist()
    [3, 4]
    >>> Spins(3).config(), Encoder.named("Spins") is Spins
    ({'sites': 3}, True)
    """

    registry: ClassVar[dict[str, type["Encoder"]]] = {}

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        other = Encoder.registry.get(cls.__name__)
        if other is not None and other.__module__ != cls.__module__:
            raise TypeError(
                f"there is an encoder {cls.__name__} already, in {other.__module__}; files "
                "identify encoders by class name, so choose another one"
            )
        Encoder.registry[cls.__name__] = cls

    def __init__(self) -> None:
        self.phys_dims: tuple[int, ...] = ()
        self.buffers: dict[str, np.ndarray] = {}

    @staticmethod
    def named(name: str) -> type["Encoder"]:
        """Return the encoder class of a name, or raise ``ValueError`` with the known names."""
        if name not in Encoder.registry:
            raise ValueError(
                f"unknown encoder type {name!r}; define the class before loading, or choose one "
                f"of {', '.join(sorted(Encoder.registry))}"
            )
        return Encoder.registry[name]

    def fit(self, data: Any) -> Self:
        """Fit to training data; the default has nothing to fit.

        Parameters
        ----------
        data : array (n, ...)
            Training data only: validation and test data must not leak in here.

        Returns
        -------
        Encoder
            This encoder.
        """
        self.check(data)
        return self

    def check(self, data: Any, argument: str = "data") -> Any:
        """Return data as expected by :meth:`encode`, or raise an error about ``argument``."""
        if not hasattr(data, "__len__") or len(data) == 0:
            raise ValueError(f"{argument} is empty or not an array, expected at least one sample")
        return data

    @abstractmethod
    def encode(self, data: Any) -> Cores:
        """Map data (n, ...) to cores ``(n, left, phys, right)`` on NumPy."""

    @final
    def __call__(self, data: Any) -> MPS:
        """Encode data (n, ...) as an :class:`ftnn.MPS` of n samples."""
        return MPS(self.encode(data))

    def reconstruct(self, x: MPS | Cores) -> Any:
        """Return the data encoded by states: the inverse of :meth:`encode`.

        Parameters
        ----------
        x : MPS or tuple of array (n, left, phys, right)
            On any backend.

        Raises
        ------
        NotImplementedError
            If the encoder has no inverse.
        """
        raise NotImplementedError(f"{type(self).__name__} has no inverse")

    def reconstruction_error(self, data: Any) -> np.ndarray:
        """Return the error of ``reconstruct(encode(data))`` for every sample.

        Parameters
        ----------
        data : array (n, ...)

        Returns
        -------
        float64 array (n,)
            Relative to the Euclidean norm of the sample; NaN in the data count as 0.
        """
        data = self.check(data)
        near = np.asarray(self.reconstruct(self.encode(data)), dtype=np.float64)
        exact = np.asarray(data, dtype=np.float64)
        axes = tuple(range(1, exact.ndim))
        size = np.sqrt(np.nansum(exact**2, axis=axes))
        error = np.sqrt(np.nansum((near - exact) ** 2, axis=axes))
        return error / np.where(size > 0, size, 1.0)

    @final
    def config(self) -> dict[str, Any]:
        """Return the arguments of the constructor, as JSON types."""
        return {name: _as_json(getattr(self, name), name) for name in self._arguments()}

    def set_buffers(self, buffers: Mapping[str, np.ndarray]) -> None:
        """Restore fitted arrays read from a file.

        Parameters
        ----------
        buffers : dict of str to array

        Raises
        ------
        ValueError
            If an array is missing, or its shape differs from the encoder's own.
        """
        for name, own in self.buffers.items():
            if name not in buffers:
                raise ValueError(f"array encoder.{name} is missing")
            if buffers[name].shape != own.shape:
                raise ValueError(
                    f"encoder.{name} has shape {buffers[name].shape}, expected {own.shape}"
                )
        self.buffers = {name: np.array(buffers[name]) for name in self.buffers}

    def __repr__(self) -> str:
        shown = [
            f"{name}={_plain(getattr(self, name))!r}"
            for name, parameter in self._arguments().items()
            if _plain(getattr(self, name)) != parameter.default
        ]
        return f"{type(self).__name__}({', '.join(shown)})"

    @classmethod
    def _arguments(cls) -> dict[str, inspect.Parameter]:
        return dict(inspect.signature(cls).parameters)


def core_arrays(x: MPS | Cores) -> tuple[np.ndarray, ...]:
    """Return the cores (n, left, phys, right) of a state, or cores themselves, on NumPy."""
    cores = x.cores if isinstance(x, MPS) else tuple(x)
    check_cores(cores)
    return tuple(to_numpy(core) for core in cores)


def site_vectors(x: MPS | Cores, phys_dims: tuple[int, ...]) -> list[np.ndarray]:
    """Return the site vectors (n, phys) of product states, or raise an error for other states.

    Examples
    --------
    >>> [v.shape for v in site_vectors(MPS([np.ones((5, 1, 2, 1)), np.ones((5, 1, 3, 1))]), (2, 3))]
    [(5, 2), (5, 3)]
    """
    cores = core_arrays(x)
    dims = tuple(core.shape[2] for core in cores)
    bonds = tuple(core.shape[3] for core in cores)
    if dims != phys_dims:
        raise ValueError(f"x has phys_dims {dims}, but the encoder makes {phys_dims}")
    if max(bonds) > 1:
        raise ValueError(
            f"x has bonds {bonds[:-1]}, but only product states (all bonds 1) can be decoded; "
            "ftnn.compress(x, max_bond=1) gives the nearest one"
        )
    return [core[:, 0, :, 0] for core in cores]


def _plain(value: Any) -> Any:
    """Convert NumPy numbers and arrays to Python types, and lists to tuples."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def _as_json(value: Any, argument: str) -> Any:
    if isinstance(value, (np.ndarray, np.generic)):
        value = value.tolist()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Mapping):
        return {str(key): _as_json(entry, argument) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes):
        return [_as_json(entry, argument) for entry in value]
    raise TypeError(
        f"{argument} is a {type(value).__name__}, which a file of data cannot hold; use numbers, "
        "text, or lists and dictionaries of them"
    )
