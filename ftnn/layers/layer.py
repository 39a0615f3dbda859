"""Layer: the base class of all layers of a fully tensorized network."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self, final

from autoray import infer_backend

from ..arrays.backend import Array, convert
from ..arrays.functions import dims_product
from ..chains.bonds import check_memory
from ..chains.lazy import BatchedVector
from ..chains.states import MPS
from ..chains.terms import Cores, Term
from .registry import check_expected, register_layer
from .signature import json_arguments
from .summary import describe_layer, html, table


class Layer(ABC):
    """A map on batched chains, whose arrays and sublayers are declared in three dictionaries.

    A layer is written once, in terms of the tuple of core arrays, and runs on their backend. A
    subclass fills the fields in its constructor and defines :meth:`apply`. The other methods have
    defaults that suit a layer which follows the conventions below:

    ====================  ==========================================================================
    :meth:`operators`     its MPOs by name; none
    :meth:`terms`         the exact output before truncation, as a lazy chain; nothing is truncated
    :meth:`rescale`       multiply the output by a number; a layer without a scale
    :meth:`update_grid`   adapt to inputs, where :attr:`has_grid`
    :meth:`config`        the arguments of the constructor, read from attributes of their names
    ====================  ==========================================================================

    *Conventions.* An argument of the constructor is stored under its own name: as an attribute, or,
    if it is a layer, in ``children``. Every subclass is registered by the name of its class, so
    that :func:`ftnn.save` and :func:`ftnn.load` know it; in another process it must be defined
    (imported) before a file that uses it is loaded.

    Attributes
    ----------
    params : dict of str to array
        Trainable arrays.
    buffers : dict of str to array
        Arrays that are saved but not trained, such as test matrices.
    frozen : frozenset of str
        Names of arrays in ``params`` that are not trained; initially none. See
        :func:`ftnn.growth.freeze`.
    children : dict of str to Layer
        Layers inside this one.
    in_dims, out_dims : tuple of int or None
        Physical dimensions of input and output; None means any, and the same for both.
    training : bool
        Whether the layer is in training mode; initially False. See :meth:`train`.
    recomputes_itself : bool
        Whether the layer, with :attr:`ftnn.Sequential.recompute`, recomputes its own steps in the
        backward pass, as truncations do site by site; False for layers that are recomputed as a
        whole from their input.
    entrywise : bool
        Whether the layer is the same function of every entry of the vector, on any chain.
    batch_share : (int, int) or None
        Set while several processes share a batch: the first row of this process, and the size of
        the batch. A layer with random draws draws for the whole batch, and uses its own rows.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> class Scale(ftnn.Layer):
    ...     def __init__(self, factor: float):
    ...         super().__init__()
    ...         self.factor = factor
    ...
    ...     def apply(self, cores):
    ...         return (self.factor * cores[0], *cores[1:])
    >>> Scale(2.0), Scale(2.0).config()
    (Scale(factor=2.0), {'factor': 2.0})
    """

    recomputes_itself = False
    entrywise = False
    batch_share: tuple[int, int] | None = None
    frozen: frozenset[str] = frozenset()

    def __init_subclass__(cls, **options: Any):
        super().__init_subclass__(**options)
        register_layer(cls)

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
        """Map core arrays ``(batch, left, phys, right)``; called by ``layer(x)``."""

    def operators(self) -> dict[str, Cores]:
        """Return the operators of the layer, cores ``(left, out, in, right)`` by name."""
        return {}

    def terms(self, cores: Cores) -> tuple[Term, ...]:
        """Return the exact output as a lazy chain, before any truncation.

        Parameters
        ----------
        cores : tuple of array (batch, left, phys, right)
            The input.

        Returns
        -------
        tuple of Term
            :meth:`apply` approximates their sum; empty if the layer truncates nothing, or its exact
            output is not such a sum.
        """
        return ()

    def rescale(self, log_factor: float) -> None:
        """Multiply the output by ``exp(log_factor)`` by changing the arrays, in place.

        The default does nothing, for a layer without a scale of its own. :func:`ftnn.calibrate`
        scales layers that define :meth:`operators` and this method.
        """
        return

    @property
    def has_grid(self) -> bool:
        """Whether :meth:`update_grid` can adapt the layer to its inputs."""
        return False

    def update_grid(self, cores: Cores, uniform: float = 0.1) -> None:
        """Adapt the grid of the layer to its inputs; for layers that have one."""
        raise ValueError(f"{type(self).__name__} has no grid to update")

    def dense_params(self) -> int | None:
        """Count the entries of the dense matrices that :meth:`operators` represent.

        Returns
        -------
        int or None
            An exact integer of any size; None without operators.
        """
        operators = self.operators().values()
        if not operators:
            return None
        return sum(math.prod(dims_product(w.shape[1:3]) for w in cores) for cores in operators)

    def config(self) -> dict[str, Any]:
        """Return the arguments of the constructor that are not layers, as JSON types.

        Raises
        ------
        TypeError
            If an argument is not stored under its name.
        ValueError
            If an argument is not data, for example a callable.
        """
        return json_arguments(self)

    @final
    def declare(self, shapes: Mapping[str, tuple[int, ...]], argument: str) -> None:
        """Check the shapes of the arrays that a constructor is about to allocate.

        Parameters
        ----------
        shapes : dict of str to tuple of int
            Shapes by the names of the arrays in ``params`` and ``buffers``.
        argument : str
            Argument that determines their sizes, named in errors.

        Raises
        ------
        ValueError
            If they exceed the memory; while a file is loaded, if they are not the arrays in the
            file.
        """
        check_expected(type(self), shapes)
        check_memory(shapes.values(), argument)

    def __repr__(self) -> str:
        return describe_layer(self)

    def _repr_html_(self) -> str:
        return html(self)

    @final
    def summary(self) -> str:
        """Return a table of the layers: dimensions, bonds, parameters and compression.

        Returns
        -------
        str
            Text to print; :func:`ftnn.interpret.layer_report` reports more, given inputs.

        Examples
        --------
        >>> import ftnn
        >>> dims = (4,) * 10
        >>> model = ftnn.Sequential(ftnn.Linear(dims, dims, 3, 8), ftnn.Readout(dims, 10, 5))
        >>> print(model.summary())
        path  type     dims                    weight bond  max bond  params  dense params
        ----------------------------------------------------------------------------------
        0     Linear   (4,) * 10 -> (4,) * 10            3         8   1,288        1.1e12
        1     Readout  (4,) * 10 -> 10                   5             1,692    10,485,760
        ----------------------------------------------------------------------------------
        2,980 parameters; 1.1e12 as dense matrices, 3.7e8 times as many
        """
        return table(self)

    @final
    def __call__(self, x: MPS) -> Any:
        """Apply to an :class:`ftnn.MPS`.

        Parameters
        ----------
        x : MPS
            States on the backend and in the dtype of the layer.

        Returns
        -------
        MPS, or the dense output (batch, num_outputs) of a readout
        """
        if not isinstance(x, MPS):
            lazy = isinstance(x, BatchedVector)
            remedy = "evaluate it with ftnn.compress" if lazy else "see ftnn.encoding"
            raise TypeError(f"x is a {type(x).__name__}, expected an ftnn.MPS; {remedy}")
        if self.in_dims is not None and x.phys_dims != self.in_dims:
            raise ValueError(
                f"x has phys_dims {x.phys_dims}, but {type(self).__name__} takes {self.in_dims}"
            )
        cores = x.cores
        self._check_placement(cores[0])
        out = self.apply(cores)
        return MPS(out) if isinstance(out, tuple) else out

    @final
    def named_params(self) -> dict[str, Array]:
        """Return all trainable arrays by dotted path, without the frozen ones."""
        return {
            f"{path}{key}": a
            for path, layer in self.walk()
            for key, a in layer.params.items()
            if key not in layer.frozen
        }

    @final
    def named_buffers(self) -> dict[str, Array]:
        """Return all arrays that are saved but not trained, by dotted path; the frozen ones too."""
        return {
            f"{path}{key}": a
            for path, layer in self.walk()
            for key, a in (layer.params | layer.buffers).items()
            if key in layer.buffers or key in layer.frozen
        }

    @final
    def named_arrays(self) -> dict[str, Array]:
        """Return all arrays by dotted path."""
        return self.named_params() | self.named_buffers()

    @final
    def set_arrays(self, arrays: dict[str, Array]) -> None:
        """Replace arrays by dotted path; shapes must match."""
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
        """Count the entries of all parameters, frozen or not."""
        arrays = (array for _, layer in self.walk() for array in layer.params.values())
        return sum(dims_product(array.shape) for array in arrays)

    @final
    def train(self, mode: bool = True) -> Self:
        """Set this layer and all sublayers to training mode, or back with ``mode=False``.

        Only layers with running statistics or random draws behave differently in training.
        """
        for _, layer in self.walk():
            layer.training = mode
        return self

    @final
    def eval(self) -> Self:
        """Set this layer and all sublayers to evaluation mode."""
        return self.train(False)

    @final
    def walk(self, path: str = "") -> Iterator[tuple[str, "Layer"]]:
        """Yield this layer and all sublayers, each with its dotted path prefix."""
        yield path, self
        for name, child in self.children.items():
            yield from child.walk(f"{path}{name}.")

    @final
    def to(self, backend: str, dtype: str | None = None, device: str | None = None) -> Self:
        """Move every array to a backend, dtype and device, in place.

        Parameters
        ----------
        backend, dtype, device
            As in :meth:`ftnn.MPS.to`.

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

    def _check_placement(self, core: Array) -> None:
        stores = (store for _, layer in self.walk() for store in (layer.params, layer.buffers))
        array = next((array for store in stores for array in store.values()), None)
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


def site_entries(prefix: str, arrays: Sequence[Any]) -> dict[str, Any]:
    """Return the entries of ``params`` or ``buffers`` for one array per site, or their shapes."""
    return {f"{prefix}.{k}": array for k, array in enumerate(arrays)}


def collect(store: dict[str, Array], prefix: str) -> Cores:
    """Return the arrays stored by :func:`site_entries`, in the order of the sites."""
    return tuple(array for name, array in store.items() if name.startswith(prefix + "."))


def scale_evenly(store: dict[str, Array], prefix: str, log_factor: float) -> None:
    """Multiply a chain in ``store`` by ``exp(log_factor)``, spread evenly over its cores."""
    names = [name for name in store if name.startswith(prefix + ".")]
    factor = math.exp(log_factor / len(names))
    for name in names:
        store[name] = store[name] * factor
