"""Layer: what every layer of a fully tensorized network is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any, Self, final

from autoray import infer_backend

from ..arrays.backend import Array, convert
from ..chains.states import MPS
from ..chains.terms import Cores


class Layer(ABC):
    """A map on batched chains, with its arrays and its parts declared in three dictionaries.

    A layer is written once, on the tuple of core arrays, and runs on the backend those live on.
    Subclasses fill the fields in their constructor and define :meth:`apply` and
    :meth:`config`; nothing else is overridden.

    Attributes
    ----------
    params : dict of str to array
        Trainable arrays.
    buffers : dict of str to array
        Arrays that are saved but not trained, such as test matrices.
    children : dict of str to Layer
        Layers inside this one.
    in_dims, out_dims : tuple of int or None
        Physical dimensions taken and returned; None means any, and the same.
    training : bool
        Whether the layer is being trained; False at first. See :meth:`train`.
    truncates : bool
        Whether it truncates: what it keeps for a backward pass is then thinned out site by site,
        where asked for (:attr:`ftnn.Sequential.recompute`), instead of as a whole.
    batch_share : (int, int) or None
        Set while several processes share a batch: which of its rows is the first here, and how
        many it has. A layer that draws does so for the whole batch, and takes its rows.
    """

    truncates = False
    batch_share: tuple[int, int] | None = None

    def __init__(
        self,
        in_dims: tuple[int, ...] | None = None,
        out_dims: tuple[int, ...] | None = None,
    ):
        self.params: dict[str, Array] = {}
        self.buffers: dict[str, Array] = {}
        self.children: dict[str, Layer] = {}
        self.in_dims = in_dims
        self.out_dims = out_dims
        self.training = False

    @abstractmethod
    def apply(self, cores: Cores) -> Any:
        """Map core arrays ``(batch, left, phys, right)``; what ``layer(x)`` does inside."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Arguments of the constructor, as JSON types."""

    @final
    def __call__(self, x: MPS) -> Any:
        """Apply to an :class:`ftnn.MPS`.

        Parameters
        ----------
        x : MPS
            On the backend and dtype of the layer.

        Returns
        -------
        MPS, or the dense output (batch, num_outputs) of a readout
        """
        if not isinstance(x, MPS):
            raise TypeError(f"x is a {type(x).__name__}, expected an ftnn.MPS; see ftnn.encoding")
        if self.in_dims is not None and x.phys_dims != self.in_dims:
            raise ValueError(
                f"x has phys_dims {x.phys_dims}, but {type(self).__name__} takes {self.in_dims}"
            )
        self._check_placement(x)
        out = self.apply(x.cores)
        return MPS(out) if isinstance(out, tuple) else out

    @final
    def named_params(self) -> dict[str, Array]:
        """All trainable arrays by dotted path."""
        return {f"{path}{key}": a for path, layer in self.walk() for key, a in layer.params.items()}

    @final
    def named_buffers(self) -> dict[str, Array]:
        """All arrays that are saved but not trained, by dotted path."""
        return {
            f"{path}{key}": a for path, layer in self.walk() for key, a in layer.buffers.items()
        }

    @final
    def named_arrays(self) -> dict[str, Array]:
        """All arrays by dotted path."""
        return self.named_params() | self.named_buffers()

    @final
    def set_arrays(self, arrays: dict[str, Array]) -> None:
        """Replace arrays by dotted path; their shapes must agree."""
        owners = {
            f"{path}{key}": (store, key)
            for path, layer in self.walk()
            for store in (layer.params, layer.buffers)
            for key in store
        }
        for name, array in arrays.items():
            if name not in owners:
                raise ValueError(f"the model has no array {name!r}")
            store, key = owners[name]
            if tuple(store[key].shape) != tuple(array.shape):
                raise ValueError(
                    f"array {name!r} has shape {tuple(array.shape)}, expected "
                    f"{tuple(store[key].shape)}"
                )
            store[key] = array

    @final
    def num_params(self) -> int:
        """Count the trainable entries."""
        total = 0
        for array in self.named_params().values():
            size = 1
            for dim in array.shape:
                size *= int(dim)
            total += size
        return total

    @final
    def train(self, mode: bool = True) -> Self:
        """Switch this layer and all inside it to training, or back with ``mode=False``.

        Only layers that keep running statistics behave otherwise in training.
        """
        for _, layer in self.walk():
            layer.training = mode
        return self

    @final
    def eval(self) -> Self:
        """Switch this layer and all inside it to evaluation."""
        return self.train(False)

    @final
    def walk(self, path: str = "") -> Iterator[tuple[str, "Layer"]]:
        """Yield this layer and all inside it, each with its dotted path prefix."""
        yield path, self
        for name, child in self.children.items():
            yield from child.walk(f"{path}{name}.")

    @final
    def to(self, backend: str, dtype: str | None = None, device: str | None = None) -> Self:
        """Move every array to a backend, dtype and device, in place.

        Parameters
        ----------
        backend : {"numpy", "torch", "cupy", "jax"}
        dtype : str, optional
            "float32", "float64", "complex64" or "complex128".
        device : str, optional
            Device string of the backend, e.g. "cuda".

        Returns
        -------
        Layer
            This layer.
        """
        for _, layer in self.walk():
            for store in (layer.params, layer.buffers):
                for key, array in store.items():
                    store[key] = convert(array, backend, dtype, device)
        return self

    def _check_placement(self, x: MPS) -> None:
        array, core = next(iter(self.named_arrays().values()), None), x.cores[0]
        if array is None:
            return
        if infer_backend(array) != infer_backend(core):
            raise ValueError(
                f"x lives on {infer_backend(core)}, the layer on {infer_backend(array)}; "
                f"use layer.to({infer_backend(core)!r})"
            )
        if array.dtype != core.dtype:
            raise ValueError(
                f"x has dtype {core.dtype}, the layer {array.dtype}; "
                "use layer.to(backend, dtype=...)"
            )


def named(prefix: str, arrays: Sequence[Array]) -> dict[str, Array]:
    """Entries of ``params`` or ``buffers`` for one array a site."""
    return {f"{prefix}.{k}": array for k, array in enumerate(arrays)}


def collect(store: dict[str, Array], prefix: str) -> Cores:
    """Arrays that :func:`named` put there, in the order of the sites."""
    return tuple(array for name, array in store.items() if name.startswith(prefix + "."))
