"""intercepted: observe or change what every layer of a model does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from ..chains.terms import Cores
from .layer import Layer

Hook = Callable[[str, Layer, Cores], Any]
"""Called with the path of a layer, the layer and its input cores; returns the output."""


@contextmanager
def intercepted(model: Layer, hook: Hook) -> Iterator[None]:
    """Call a hook in place of :meth:`Layer.apply` of every layer, the model itself included.

    Parameters
    ----------
    model : Layer
    hook : callable
        ``hook(path, layer, cores)`` with the dotted path, ``"2.layer"``, empty for the model;
        ``type(layer).apply(layer, cores)`` is the unchanged behaviour.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> from ftnn.layers.hooks import intercepted
    >>> model = ftnn.Sequential(ftnn.nonlinear.RMSNorm(), ftnn.nonlinear.SVDGauge())
    >>> def hook(path, layer, cores):
    ...     print(repr(path), type(layer).__name__, [core.shape for core in cores])
    ...     return type(layer).apply(layer, cores)
    >>> with intercepted(model, hook):
    ...     out = model.apply((np.ones((1, 1, 2, 1)),))
    '' Sequential [(1, 1, 2, 1)]
    '0' RMSNorm [(1, 1, 2, 1)]
    '1' SVDGauge [(1, 1, 2, 1)]
    """
    layers = list(model.walk())
    for path, layer in layers:
        vars(layer)["apply"] = partial(hook, path.rstrip("."), layer)  # shadows the method
    try:
        yield
    finally:
        for _, layer in layers:
            vars(layer).pop("apply", None)
