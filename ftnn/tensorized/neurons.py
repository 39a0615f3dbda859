r"""Hidden neurons in another order: the same function, and weights that are closer to networks.

The neurons between two linear layers have no order of their own: rows of the first weight and
columns of the second can be permuted together. A chain folds the index of a neuron into digits, and
is the better the more alike neurons are that share the first of them. Neurons are leaves of a tree
of clusters (Ward's), by the mean squared distance of their values before and after the functions
between the layers, which second moments tell: :math:`d_{ij}^2 = \Sigma_{ii} + \Sigma_{jj} -
2 \Sigma_{ij}`.
"""

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor, nn

from .linear import matrix_of

ENTRYWISE = (
    nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh,
    nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.ReLU, nn.ReLU6, nn.SELU, nn.Sigmoid, nn.SiLU,
    nn.Softplus, nn.Softshrink, nn.Softsign, nn.Tanh, nn.Tanhshrink, nn.Threshold,
    nn.Identity, nn.Dropout,
)  # fmt: skip
"""Modules that act on every neuron alike."""


def pairs(model: nn.Module) -> Iterator[tuple[str, str]]:
    """Yield the names of two linear layers of a Sequential between which neurons are hidden.

    Between them are functions of single neurons only; Sequentials in Sequentials count as one.
    Layers, functions and containers that are in several places, or have hooks, are left out.

    Examples
    --------
    >>> model = nn.Sequential(nn.Linear(4, 8), nn.Sequential(nn.ReLU(), nn.Linear(8, 8)))
    >>> list(pairs(model))
    [('0', '1.1')]
    """
    count: dict[nn.Module, int] = {}
    for _, module in model.named_modules(remove_duplicate=False):
        count[module] = count.get(module, 0) + 1
    inside: set[nn.Module] = set()
    for name, module in model.named_modules():
        if type(module) is not nn.Sequential or module in inside:
            continue
        first: str | None = None
        for own, step in _steps(name, module, inside):
            plain = count[step] == 1 and not step._forward_hooks and not step._forward_pre_hooks
            if type(step) is nn.Linear and plain:
                if first is not None:
                    yield first, own
                first = own
            elif type(step) not in ENTRYWISE or not plain:
                first = None


def _steps(
    name: str, module: nn.Sequential, inside: set[nn.Module]
) -> Iterator[tuple[str, nn.Module]]:
    """Yield what a Sequential calls, one after the other, by name."""
    for own, child in module.named_children():
        path = f"{name}.{own}" if name else own
        if type(child) is nn.Sequential and not child._forward_hooks:
            inside.add(child)
            yield from _steps(path, child, inside)
        else:
            yield path, child


def order_of(first: Tensor, before: Tensor | None, after: Tensor | None) -> Tensor:
    """Return an order of neurons in which neighbours are alike.

    Parameters
    ----------
    first : Tensor
        Weight of the layer before, (neurons, inputs).
    before, after : Tensor or None
        Second moments of its inputs, (inputs, inputs), and of those of the layer behind, (neurons,
        neurons). One of them suffices.
    """
    squares = np.zeros((len(first), len(first)))
    if before is not None:
        first = first.detach().to(before)
        squares += squared_distances(first @ before @ first.T)
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


def permute(model: nn.Module, first: str, second: str, order: Tensor) -> None:
    """Give hidden neurons another order, in place: outputs of a layer, and inputs of the next."""
    one, two = model.get_submodule(first), model.get_submodule(second)
    if not (isinstance(one, nn.Linear) and isinstance(two, nn.Linear)):
        raise TypeError(f"{first!r} and {second!r} are not both torch.nn.Linear")
    with torch.no_grad():
        one.weight.copy_(matrix_of(one)[order])
        if one.bias is not None:
            one.bias.copy_(one.bias[order])
        two.weight.copy_(matrix_of(two)[:, order])
