"""Fashion-MNIST for a dense network: images as states of a single site."""

from dataclasses import replace

from ..fashion_mnist.data import load_fashion_mnist
from ..splits import SPLITS, Data
from .options import CompressionOptions


def load(options: CompressionOptions) -> Data:
    """Load the splits of ``ftnn train fashion-mnist``, every image as a core (n, 1, 784, 1)."""
    data = load_fashion_mnist(options.data, options.train.seed).limited(options.limit)
    cores = {f"{name}_inputs": (data.split(name)[0].reshape(-1, 1, 28 * 28, 1),) for name in SPLITS}
    return replace(data, **cores)
