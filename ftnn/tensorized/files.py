"""Save a tensorized model, and load it into a dense model of the same architecture."""

import copy
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..layers.containers import DESCRIPTION, read_tensors, write_tensors
from .candidates import graph_of
from .conv import kernel_graph
from .decompose import Decomposition
from .linear import Linear, is_transposed
from .module import TensorizedModule
from .places import KINDS, put

FORMAT = "ftnn-tensorized-1"


def save(model: nn.Module, path: str | os.PathLike) -> None:
    """Save the state of a model with tensorized layers, and what these layers are.

    A safetensors file, of data only, replaced atomically. Parameters that several modules share
    are saved once.

    Parameters
    ----------
    model : torch.nn.Module
    path : path

    Raises
    ------
    ValueError
        If no layer is tensorized.

    Examples
    --------
    >>> import torch, ftnn, tempfile, os
    >>> dense = torch.nn.Sequential(torch.nn.Linear(64, 64))
    >>> found = ftnn.tensorize(dense, params=0.5)
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> ftnn.tensorized.save(found.model, path)
    >>> model = ftnn.tensorized.load(dense, path)
    >>> x = torch.ones(1, 64)
    >>> bool(torch.equal(model(x), found.model(x)))
    True
    """
    layers: dict[int, dict[str, Any]] = {}
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, TensorizedModule):
            own: dict[str, Any] = {"names": [], "format": module.format, "dims": module.dims}
            layers.setdefault(id(module), own)["names"].append(name)
    if not layers:
        raise ValueError("the model has no tensorized layer; save it with torch or safetensors")
    tensors, seen = {}, set()
    for name, tensor in model.state_dict(keep_vars=True).items():
        if id(tensor) in seen:
            continue
        seen.add(id(tensor))
        host = tensor.detach().cpu()
        tensors[name] = (host.float() if host.dtype == torch.bfloat16 else host).numpy()
    orders = getattr(model, "neuron_orders", {}).items()
    about = {
        "format": FORMAT,
        "layers": list(layers.values()),
        "orders": [[names, order.tolist()] for names, order in orders],
    }
    content = json.dumps(about)
    write_tensors(path, tensors, {DESCRIPTION: content})


def load(model: nn.Module, path: str | os.PathLike) -> nn.Module:
    """Load a saved state into a copy of a dense model of the same architecture.

    Parameters
    ----------
    model : torch.nn.Module
        Its weights do not matter; dtypes and devices are kept.
    path : path

    Returns
    -------
    Module

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged or of another kind, or the model is another one.
    """
    tensors, metadata = read_tensors(path)
    try:
        about = json.loads(metadata[DESCRIPTION])
        if about["format"] != FORMAT:
            raise KeyError(FORMAT)
        layers = [(list(one["names"]), one["format"], one["dims"]) for one in about["layers"]]
        orders = {tuple(names): torch.tensor(order) for names, order in about.get("orders", ())}
    except (KeyError, TypeError, ValueError):
        raise ValueError(f"{path} was not written by ftnn.tensorized.save") from None
    new = copy.deepcopy(model)
    for names, format, dims in layers:
        layer = _skeleton(new, names[0], format, dims, Path(path))
        put(new, names, layer)
    state = {name: torch.from_numpy(array) for name, array in tensors.items()}
    _fill(new, state, Path(path))
    new.neuron_orders = orders  # type: ignore[assignment]
    return new


def _skeleton(
    model: nn.Module, name: str, format: str, dims: list[list[int]], path: Path
) -> TensorizedModule:
    """Return a tensorized layer of rank 1 for a dense one."""
    try:
        dense = model.get_submodule(name)
        kind = Linear if is_transposed(dense) else KINDS[type(dense)]
        sizes = tuple(dims[0]), tuple(dims[1])
        if isinstance(dense, (nn.Conv1d, nn.Conv2d, nn.Conv3d)):
            graph = kernel_graph(format, dense, sizes)
        else:
            graph = graph_of(dense, format, sizes)
    except (AttributeError, KeyError, ValueError, TypeError) as error:
        raise ValueError(
            f"{path} has a layer {name!r} in format {format!r}, which the model has not ({error}); "
            "load it into the architecture that was tensorized"
        ) from None
    ones = [torch.zeros(graph.shape(n)) for n in range(len(graph.cores))]
    return kind.from_cores(dense, format, Decomposition(graph, ones, 0.0))


def _fill(model: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load a state; names that share a parameter with one that is there may be missing."""
    for name, tensor in state.items():
        if not torch.isfinite(tensor.float()).all():
            raise ValueError(f"{path} has values in {name!r} that are not finite")
    try:
        result = model.load_state_dict(dict(state), strict=False)
    except RuntimeError as error:
        raise ValueError(f"{path} is of another model: {error}") from None
    own = model.state_dict(keep_vars=True)
    loaded = {id(own[name]) for name in state if name in own}
    missing = [name for name in result.missing_keys if id(own[name]) not in loaded]
    for what, names in (("lacks", missing), ("has", result.unexpected_keys)):
        if names:
            raise ValueError(f"{path} {what} {names[0]!r}, unlike the model; load its own")
