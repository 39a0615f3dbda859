"""TorchModule: a model of ftnn as a torch.nn.Module."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import torch

from ..arrays.backend import Array, convert
from ..chains.states import MPS
from ..chains.terms import Cores
from ..layers.layer import Layer
from ..layers.sequential import Sequential


class TorchModule(torch.nn.Module):
    """A model of ftnn as a torch module: its parameters are the model's arrays.

    Frozen arrays (:func:`ftnn.growth.freeze`) are buffers of the module.

    Works in any torch loop, with any torch optimizer. ``.to(...)``, ``state_dict`` and
    :func:`torch.func.functional_call` work as for other modules; the wrapped model always reads the
    module's current tensors.

    Parameters
    ----------
    model : Layer
        Moved to torch, in place.
    dtype : str, optional
        By default the dtype of the model.
    device : str, optional
    recompute : bool
        Set ``recompute`` of every :class:`ftnn.Sequential` in the model: less memory, more time.

    Examples
    --------
    >>> import numpy as np, torch, ftnn
    >>> from ftnn.training import TorchModule
    >>> module = TorchModule(ftnn.Readout((2, 2), num_outputs=3, bond_dim=2), dtype="float32")
    >>> x = ftnn.MPS.from_dense(torch.ones(5, 4), (2, 2))
    >>> loss = torch.nn.functional.cross_entropy(module(x), torch.zeros(5, dtype=torch.long))
    >>> loss.backward()
    >>> sorted(name for name, _ in module.named_parameters())
    ['weight:0', 'weight:1']
    """

    def __init__(
        self,
        model: Layer,
        dtype: str | None = None,
        device: str | None = None,
        recompute: bool = False,
    ):
        super().__init__()
        if not isinstance(model, Layer):
            raise TypeError(f"model is a {type(model).__name__}, expected an ftnn.Layer")
        model.to("torch", dtype, device)
        self.model = model
        networks = [layer for _, layer in model.walk() if isinstance(layer, Sequential)]
        if recompute and not networks:
            raise ValueError(
                "recompute is True, but the model has no Sequential, which stores the states "
                "between layers; wrap it: ftnn.Sequential(model)"
            )
        for network in networks:
            network.recompute = recompute
        # torch forbids dots in names
        self._param_slots: list[tuple[dict[str, Array], str, str]] = []
        self._buffer_slots: list[tuple[dict[str, Array], str, str]] = []
        for path, layer in model.walk():
            for key, array in layer.params.items():
                name = f"{path}{key}".replace(".", ":")
                if key in layer.frozen:  # no optimizer, average or weight decay sees it
                    self.register_buffer(name, array)
                    self._buffer_slots.append((layer.params, key, name))
                    continue
                self.register_parameter(name, torch.nn.Parameter(array))
                self._param_slots.append((layer.params, key, name))
            for key, array in layer.buffers.items():
                name = f"{path}{key}".replace(".", ":")
                self.register_buffer(name, array)
                self._buffer_slots.append((layer.buffers, key, name))
        self.replaced: set[str] = set()  # names of buffers that the last pass replaced
        self.bind()
        model.train(self.training)

    def names_of(self, kind: type[Layer]) -> set[str]:
        """Return the dotted paths of the parameters of all layers of one kind."""
        return {
            f"{path}{key}"
            for path, layer in self.model.walk()
            if isinstance(layer, kind)
            for key in layer.params
            if key not in layer.frozen
        }

    def extra_repr(self) -> str:
        """Return the representation of the model."""
        return repr(self.model)

    def forward(self, x: MPS) -> torch.Tensor | MPS:
        """Apply the model to an MPS on the module's device and dtype."""
        self.bind()
        out = self.model(x)
        self._keep_buffers()
        return out

    def apply_cores(self, cores: Cores) -> torch.Tensor | Cores:
        """Apply the model to core tensors ``(batch, left, phys, right)``; no network is built."""
        self.bind()
        out = self.model.apply(cores)
        self._keep_buffers()
        return out

    def train(self, mode: bool = True) -> Self:
        """Set the module and the wrapped model to training or evaluation mode."""
        super().train(mode)
        self.model.train(mode)
        return self

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Switch to evaluation mode within the block, then restore the mode."""
        mode = self.training
        self.eval()
        try:
            yield
        finally:
            self.train(mode)

    def _keep_buffers(self) -> None:
        """Store running statistics that layers have replaced."""
        self.replaced.clear()
        for store, key, name in self._buffer_slots:
            if store[key] is not self._buffers[name]:
                self._buffers[name] = store[key].detach()
                self.replaced.add(name)

    def bind(self) -> None:
        """Make the model read the module's tensors, also if another module shares its layers."""
        for store, key, name in self._param_slots:
            store[key] = self._parameters[name]
        for store, key, name in self._buffer_slots:
            store[key] = self._buffers[name]


def cores_to_torch(cores: Cores, dtype: str | None = None, device: str | None = None) -> Cores:
    """Copy cores of any backend to torch."""
    return tuple(convert(core, "torch", dtype, device) for core in cores)
