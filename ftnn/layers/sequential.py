"""Sequential: layers one after another."""

from collections.abc import Callable
from typing import Any

from ..arrays.backend import Array
from ..arrays.recompute import recompute, recomputing
from ..chains.terms import Cores
from .layer import Layer
from .readouts import Head


class Sequential(Layer):
    """Layers one after another.

    Parameters
    ----------
    *layers : Layer
        A readout must be the last layer.

    Attributes
    ----------
    recompute : bool
        Whether to save memory on torch by recomputing in the backward pass: a truncation stores
        only its environments and its result, other layers only their input. This takes less than
        half of the memory and a quarter more time. Initially False.
    """

    recomputes_itself = True

    def __init__(self, *layers: Layer):
        if not layers:
            raise ValueError("layers is empty; give at least one layer")
        for n, layer in enumerate(layers):
            if not isinstance(layer, Layer):
                raise TypeError(f"layers[{n}] is a {type(layer).__name__}, expected a Layer")
            if isinstance(layer, Head) and n < len(layers) - 1:
                name = type(layer).__name__
                raise ValueError(f"layers[{n}] is a {name}; it must be the last layer")
        dims = None
        for n, layer in enumerate(layers):
            if layer.in_dims is not None:
                if dims is not None and dims != layer.in_dims:
                    raise ValueError(
                        f"layers[{n}] takes phys_dims {layer.in_dims}, "
                        f"but the layers before return {dims}"
                    )
                dims = layer.out_dims
        first = next((layer.in_dims for layer in layers if layer.in_dims is not None), None)
        super().__init__(first, dims)
        self.children |= {str(n): layer for n, layer in enumerate(layers)}
        self.recompute = False

    @property
    def layers(self) -> tuple[Layer, ...]:
        """The layers, in order."""
        return tuple(self.children.values())

    def apply(self, cores: Cores) -> Any:
        """Map cores through every layer; no network object is built in between."""
        if not self.recompute:
            for layer in self.layers:
                cores = layer.apply(cores)
            return cores
        with recomputing():
            for layer in self.layers:
                again = None if layer.recomputes_itself else _make_repeatable(layer)
                cores = recompute(again, cores) if again else layer.apply(cores)
        return cores


def _make_repeatable(layer: Layer) -> Callable[[Cores], Any]:
    """Return ``layer.apply`` with repeatable calls that update running statistics only once."""
    stores = [part.buffers for _, part in layer.walk()]
    first = [dict(store) for store in stores]
    calls = 0

    def apply(cores: Cores) -> Any:
        nonlocal calls
        calls += 1
        if calls == 1:
            return layer.apply(cores)
        now = [dict(store) for store in stores]
        _put_back(stores, first)
        try:
            return layer.apply(cores)
        finally:
            _put_back(stores, now)

    return apply


def _put_back(stores: list[dict[str, Array]], contents: list[dict[str, Array]]) -> None:
    for store, content in zip(stores, contents, strict=True):
        store.update(content)
