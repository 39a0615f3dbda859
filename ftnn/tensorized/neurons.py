r"""Hidden neurons in another order: the same function, and weights that are closer to networks.

The neurons between linear layers have no order of their own: rows of the weights that make them and
columns of the weight that takes them can be permuted together, if what is between acts on all
neurons alike. Which layers these are is found by trial, for models of any code: neurons are put in
a random order, and the outputs of the model must stay, while the inputs of the layer that takes
them get this order. A feed-forward block has one layer that makes its neurons, or two, one of which
gates the other.

A chain folds the index of a neuron into digits, and is the better the more alike neurons are that
share the first of them. Neurons are leaves of a tree of clusters (Ward's), by the mean squared
distance of their values before and after the functions between the layers, which second moments
tell: :math:`d_{ij}^2 = \Sigma_{ii} + \Sigma_{jj} - 2 \Sigma_{ij}`.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .linear import is_transposed, matrix_of
from .places import output_of
from .rows import rows_of

ROUNDINGS, MOST = 1e3, 1e-3
"""Outputs stay if they differ by fewer rounding errors, relative to their norm, and by less."""

DISTINCT = 1e-2
"""Inputs tell an order from another if these differ by more, relative to their norm."""

MAKERS = (1, 2)
"""Numbers of layers that may make the neurons which another one takes."""


def hidden(
    model: nn.Module,
    layers: Sequence[str],
    batch: Any,
    forward: Callable[[nn.Module, Any], Any],
) -> list[tuple[str, ...]]:
    """Return the names of linear layers between which neurons are hidden; the last takes them.

    Parameters
    ----------
    model : Module
        In evaluation; the same afterwards.
    layers : sequence of str
        Linear layers that may have another order.
    batch : object
        On which the model is called.
    forward : callable

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 8))).eval()
    >>> hidden(model, ["0", "1.1"], torch.randn(9, 4), lambda model, x: model(x))
    [('0', '1.1')]
    """
    modules = {name: model.get_submodule(name) for name in layers}
    calls: dict[str, None] = {}
    with torch.no_grad(), _recorded(modules, lambda name, _: calls.setdefault(name, None)):
        forward(model, batch)
    order = list(calls)
    found: list[tuple[str, ...]] = []
    makers: set[str] = set()
    for place, taker in enumerate(order):
        for count in MAKERS:
            names = (*order[max(place - count, 0) : place], taker)
            size = matrix_of(modules[taker]).shape[1]
            sizes = [len(matrix_of(modules[name])) for name in names[:-1]]
            if makers & set(names[:-1]) or sizes != [size] * count:
                continue
            if _is_hidden(model, names, size, batch, forward):
                makers |= set(names[:-1])
                found.append(names)
                break
    return found


def _is_hidden(
    model: nn.Module,
    names: tuple[str, ...],
    size: int,
    batch: Any,
    forward: Callable[[nn.Module, Any], Any],
) -> bool:
    """Whether neurons in a random order change nothing but the order of what takes them."""
    taker = model.get_submodule(names[-1])
    seen: list[Tensor] = []

    def called() -> tuple[Tensor, Tensor]:
        seen.clear()
        with (
            torch.no_grad(),
            _recorded({names[-1]: taker}, lambda _, x: seen.append(rows_of(taker, x))),
        ):
            outputs = output_of(forward(model, batch))
        return torch.cat(seen), outputs

    before, outputs = called()
    order = torch.randperm(size, generator=torch.Generator().manual_seed(0))
    permute(model, names, order)
    try:
        after, found = called()
    finally:
        permute(model, names, order.argsort())
    expected = before[:, order.to(before.device)]
    if after.shape != expected.shape or found.shape != outputs.shape:
        return False
    eps = torch.finfo(before.dtype).eps
    limit = min(ROUNDINGS * eps, MOST)
    told = _distance(expected, before) > DISTINCT
    return told and max(_distance(after, expected), _distance(found, outputs)) <= limit


def _distance(one: Tensor, two: Tensor) -> float:
    """Return the norm of the difference, relative to that of the second; infinite if not finite."""
    gap, size = ((one.double() - two.double()).norm(), two.double().norm())
    found = float(gap / size) if size > 0 else float(gap)
    return found if found == found else float("inf")


@contextmanager
def _recorded(modules: dict[str, nn.Module], note: Callable[[str, Tensor], None]) -> Iterator[None]:
    """Tell the names and inputs of modules that are called."""

    def hook(name: str) -> Callable[..., None]:
        return lambda _, given, named: note(name, given[0] if given else next(iter(named.values())))

    hooks = [
        module.register_forward_pre_hook(hook(name), with_kwargs=True)
        for name, module in modules.items()
    ]
    try:
        yield
    finally:
        for one in hooks:
            one.remove()


def order_of(makers: Sequence[tuple[Tensor, Tensor | None]], after: Tensor | None) -> Tensor:
    """Return an order of neurons in which neighbours are alike.

    Parameters
    ----------
    makers : sequence of (Tensor, Tensor or None)
        Weights of the layers that make them, (neurons, inputs), and second moments of their inputs,
        (inputs, inputs).
    after : Tensor or None
        Second moments of the inputs of the layer that takes them, (neurons, neurons).
    """
    squares = np.zeros((len(makers[0][0]),) * 2)
    for weight, before in makers:
        if before is not None:
            weight = weight.detach().to(before)
            squares += squared_distances(weight @ before @ weight.T)
    if after is not None:
        squares += squared_distances(after)
    return leaves(squares)


def squared_distances(moments: Tensor) -> np.ndarray:
    """Return the mean squared distances of neurons."""
    sizes = moments.diagonal()
    return (sizes[:, None] + sizes - 2 * moments).clamp(min=0).cpu().numpy()


def leaves(squares: np.ndarray) -> Tensor:
    """Return the leaves of a tree of clusters, of squared distances (n, n)."""
    from scipy.cluster.hierarchy import leaves_list, linkage

    if len(squares) < 2:
        return torch.arange(len(squares))
    above = np.triu_indices(len(squares), 1)
    return torch.from_numpy(leaves_list(linkage(np.sqrt(squares[above]), "ward")).astype(np.int64))


def permute(model: nn.Module, names: Sequence[str], order: Tensor) -> None:
    """Give hidden neurons another order, in place: outputs of layers, and inputs of the last."""
    layers = [model.get_submodule(name) for name in names]
    for name, layer in zip(names, layers, strict=True):
        if not isinstance(layer, nn.Linear) and not is_transposed(layer):
            raise TypeError(f"{name!r} is {type(layer).__name__}, expected a linear layer")
    with torch.no_grad():
        for layer in layers[:-1]:
            matrix, bias = matrix_of(layer), layer.bias
            matrix.copy_(matrix[order.to(matrix.device)])
            if isinstance(bias, Tensor):
                bias.copy_(bias[order.to(bias.device)])
        last = matrix_of(layers[-1])
        last.copy_(last[:, order.to(last.device)])
