"""Hidden neurons in an order in which activations are close to states of small bonds."""

import numpy as np
import torch
from torch import Tensor, nn

from .neurons import leaves, squared_distances

SAMPLES = 500
"""Most samples whose activations are compared."""


def ordered(modules: list[tuple[str, nn.Module]], x: np.ndarray) -> list[tuple[str, nn.Module]]:
    """Return the modules of a network with hidden neurons reordered, of the same function.

    Rows of a weight and columns of the next are permuted, so that neurons whose activations are
    alike become neighbours: as leaves of a tree of clusters (Ward's), over samples of what a linear
    layer returns and what the functions after it make of it. The vector of activations, folded to
    a matrix or a chain, then has rows that are alike, and smaller singular values.

    Parameters
    ----------
    modules : list of (str, Module)
        Linear layers, and functions of entries.
    x : array (n, features)
        Calibration inputs.

    Returns
    -------
    list of (str, Module)
        With new linear layers; those that are given are not changed.
    """
    found: list[tuple[str, nn.Module]] = []
    last = max(n for n, (_, module) in enumerate(modules) if isinstance(module, nn.Linear))
    values, places = torch.from_numpy(x[:SAMPLES]), None
    for n, (name, module) in enumerate(modules):
        if not isinstance(module, nn.Linear):
            found.append((name, module))
            continue
        layer = module if places is None else _permuted(module, columns=places)
        with torch.no_grad():
            values = layer(values)
            seen = [values]
            for _, other in modules[n + 1 :]:
                if isinstance(other, nn.Linear):
                    break
                values = other(values)
                seen.append(values)
        places = None
        if n < last and values.shape[1] > 1:
            together = torch.cat(seen)
            places = leaves(squared_distances(together.T @ together))
            layer, values = _permuted(layer, rows=places), values[:, places]
        found.append((name, layer))
    return found


def _permuted(
    layer: nn.Linear, rows: Tensor | None = None, columns: Tensor | None = None
) -> nn.Linear:
    """Return a copy of a layer with outputs and inputs in another order."""
    weight = layer.weight.detach()
    weight = weight if rows is None else weight[rows]
    weight = weight if columns is None else weight[:, columns]
    new = nn.Linear(weight.shape[1], len(weight), layer.bias is not None, dtype=weight.dtype)
    with torch.no_grad():
        new.weight.copy_(weight)
        if layer.bias is not None:
            new.bias.copy_(layer.bias if rows is None else layer.bias[rows])
    return new
