"""A dense network of torch as a layer, so that the trainer, and files of data, can have it."""

from typing import TYPE_CHECKING, Any

from autoray import infer_backend

from ...arrays.backend import Array, as_like, convert, to_numpy
from ...chains.terms import Cores
from ...layers.layer import Layer
from ..splits import Data
from .options import CompressionOptions

if TYPE_CHECKING:
    from torch import nn


class DenseNetwork(Layer):
    """A dense network on images, which are states of one site; nothing in it is a tensor network.

    Its arrays are the parameters and the buffers of a torch module, by their names there. Counts of
    batches are no part of it. On other backends the computation still is torch's, on the host.

    Parameters
    ----------
    network : {"mlp", "resnet"}
        As of :func:`ftnn.experiments.compression.networks.dense_network`.
    seed : int
        Of the weights, which are drawn as torch does.

    Examples
    --------
    >>> import numpy as np
    >>> model = DenseNetwork("resnet")
    >>> model.apply((np.zeros((3, 1, 784, 1), "float32"),)).shape, model.num_params()
    ((3, 10), 308074)
    """

    num_outputs = 10

    def __init__(self, network: str, seed: int = 0):
        import torch

        from .networks import dense_network

        with torch.device("meta"):
            self._skeleton = dense_network(network)
        super().__init__(in_dims=(28 * 28,))
        self.network, self.seed = network, seed
        stores = (self._skeleton.named_parameters(), _buffers(self._skeleton))
        shapes = {name: tuple(x.shape) for named in stores for name, x in named}
        self.declare(shapes, "network")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            made = dense_network(network)
        self.params |= {name: p.detach().numpy() for name, p in made.named_parameters()}
        self.buffers |= {name: buffer.numpy() for name, buffer in _buffers(made)}

    def apply(self, cores: Cores) -> Array:
        """Map a core (batch, 1, 784, 1) to logits (batch, 10)."""
        x = cores[0].reshape(-1, 1, 28, 28)
        if infer_backend(x) != "torch":
            host = {name: convert(array, "torch") for name, array in self.named_arrays().items()}
            return as_like(to_numpy(self._call(host, convert(x, "torch"))), x)
        if self.training:  # torch writes into running means, which others may hold
            self.buffers |= {name: buffer.clone() for name, buffer in self.buffers.items()}
        return self._call(self.params | self.buffers, x)

    def _call(self, arrays: dict[str, Any], images: Any) -> Any:
        """Call the torch module with arrays by name."""
        from torch.func import functional_call

        return functional_call(self._skeleton.train(self.training), arrays, (images,))

    def module(self) -> "nn.Module":
        """Return the network as a torch module of its own, in evaluation mode, on the host."""
        from .networks import dense_network

        made = dense_network(self.network)
        arrays = {name: convert(x, "torch") for name, x in self.named_arrays().items()}
        made.to(next(iter(arrays.values())).dtype)
        made.load_state_dict(arrays, strict=False)  # without counts of batches
        return made.eval()


def _buffers(module: "nn.Module") -> list[tuple[str, Any]]:
    """Return the buffers of a module that are numbers, not counts."""
    return [(name, x) for name, x in module.named_buffers() if x.is_floating_point()]


def build(options: CompressionOptions, data: Data) -> tuple[None, Layer]:
    """Build the dense network; its inputs are states already."""
    return None, DenseNetwork(options.network, options.train.seed)
