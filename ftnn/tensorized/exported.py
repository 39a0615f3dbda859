"""Models of files that torch.export wrote: read without their code, and written again.

In an exported program the layers are calls of functions on weights. Linear layers, convolutions and
embeddings become modules again, under the names they had, so that they can be found and replaced.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, fx, nn

from ..layers.containers import write_content

_ATEN = torch.ops.aten
_CONVOLUTIONS: dict[Any, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {
    getattr(getattr(_ATEN, f"conv{dims}d"), overload): kind
    for dims, kind in ((1, nn.Conv1d), (2, nn.Conv2d), (3, nn.Conv3d))
    for overload in ("default", "padding")
}
_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")


def load_exported(path: str | os.PathLike) -> tuple[nn.Module, Any]:
    """Read a model of a file of ``torch.export.save``, with layers that can be tensorized.

    Parameters
    ----------
    path : path
        Usually ending in ``.pt2``.

    Returns
    -------
    Module
        In evaluation mode, as it was exported.
    ExportedProgram
        The program it was.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it holds no exported program.
    """
    place = Path(path)
    if not place.is_file():
        raise FileNotFoundError(f"{place} does not exist, or is not a file")
    try:
        with _quiet():
            program = torch.export.load(place)
    except Exception as error:  # what torch raises on files of other kinds is not documented
        raise ValueError(
            f"{place} is not a file of torch.export.save ({type(error).__name__}); export the "
            "model with torch.export.export(model, inputs)"
        ) from None
    module = program.module()
    assert isinstance(module, fx.GraphModule)
    _tie(module)
    return with_layers(module), program


def _tie(module: nn.Module) -> None:
    """Make parameters of one storage one parameter, as they were before they were exported."""
    seen: dict[tuple, nn.Parameter] = {}
    for parent in module.modules():
        for name, parameter in list(parent.named_parameters(recurse=False)):
            key = (parameter.data_ptr(), parameter.shape, parameter.stride())
            setattr(parent, name, seen.setdefault(key, parameter))


def with_layers(module: fx.GraphModule) -> fx.GraphModule:
    """Replace calls of functions on weights by modules, under the names of the weights, in place.

    Weights that several layers share, or that are computed, stay in functions.
    """
    uses: dict[str, list[fx.Node]] = {}
    for node in module.graph.nodes:
        if node.op == "call_function":
            weight = _weight(node)
            if isinstance(weight, fx.Node) and weight.op == "get_attr":
                uses.setdefault(str(weight.target), []).append(node)
    for target, nodes in uses.items():
        name, _, last = target.rpartition(".")
        layers = [_layer(module, node) for node in nodes]
        first = layers[0]
        if last != "weight" or first is None or any(repr(x) != repr(first) for x in layers):
            continue
        _put(module, name, first)
        for node in nodes:
            values = _arguments(node)
            x = values["indices" if isinstance(first, nn.Embedding) else "input"]
            with module.graph.inserting_before(node):
                new = module.graph.call_module(name, (x,))
            new.meta = dict(node.meta)
            node.replace_all_uses_with(new)
            module.graph.erase_node(node)
    module.graph.eliminate_dead_code(is_impure_node=lambda n: n.op in ("placeholder", "output"))
    module.recompile()
    return module


def save_exported(model: nn.Module, program: Any, path: str | os.PathLike) -> None:
    """Export a model again, with the inputs of its program, and write it atomically.

    Parameters
    ----------
    model : Module
    program : ExportedProgram
        That of the dense model: its example inputs, and sizes that may vary, are those of the file.
    path : path
    """
    args, kwargs = program.example_inputs
    signature = program.graph_signature.user_inputs
    shapes = {n.name: n.meta.get("val") for n in program.graph.nodes if n.op == "placeholder"}
    dynamic: list[dict[int, Any] | None] = []
    for name in signature:
        value = shapes.get(name)
        if not isinstance(value, Tensor):
            dynamic.append(None)
            continue
        varies = [not isinstance(size, int) for size in value.shape]
        dynamic.append({n: torch.export.Dim.AUTO for n, vary in enumerate(varies) if vary})
    names = list(kwargs)
    positional = tuple(dynamic[: len(args)])
    by_name = dict(zip(names, dynamic[len(args) :], strict=True))
    with torch.no_grad():
        new = torch.export.export(
            model.eval(),
            args,
            kwargs,
            dynamic_shapes=(*positional, by_name) if names else positional,
        )
    content = BytesIO()
    torch.export.save(new, content)
    write_content(path, content.getvalue())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep torch from logging a traceback before it raises."""
    logger = logging.getLogger("torch.export")
    before, logger.disabled = logger.disabled, True
    inner = logging.getLogger("torch.export.pt2_archive._package")
    own, inner.disabled = inner.disabled, True
    try:
        yield
    finally:
        logger.disabled, inner.disabled = before, own


def _weight(node: fx.Node) -> Any:
    """Return the weight of a layer, or None for other calls."""
    if node.target is _ATEN.linear.default or node.target in _CONVOLUTIONS:
        return node.args[1] if len(node.args) > 1 else node.kwargs.get("weight")
    return node.args[0] if node.target is _ATEN.embedding.default else None


def _arguments(node: fx.Node) -> dict[str, Any]:
    """Return the arguments of a call by name."""
    is_table = node.target is _ATEN.embedding.default
    names = ("weight", "indices", "padding_idx") if is_table else _NAMES
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def _layer(module: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """Make the layer of a call, with the parameters of the module; None if it is none."""
    values = _arguments(node)
    weight = _tensor(module, values["weight"])
    bias_node = values.get("bias")
    bias = None if bias_node is None else _tensor(module, bias_node)
    if weight is None or (bias_node is not None and bias is None):
        return None
    layer: nn.Module
    if node.target is _ATEN.linear.default:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias is not None, device="meta")
    elif node.target is _ATEN.embedding.default:
        padding = values.get("padding_idx", -1)
        own = None if padding == -1 else padding
        rows, columns = weight.shape
        layer = nn.Embedding(rows, columns, own, device="meta")
    else:
        groups = values.get("groups", 1)
        layer = _CONVOLUTIONS[node.target](
            weight.shape[1] * groups,
            weight.shape[0],
            tuple(weight.shape[2:]),  # type: ignore[arg-type]
            _plain(values.get("stride", 1)),
            _plain(values.get("padding", 0)),
            _plain(values.get("dilation", 1)),
            groups,
            bias is not None,
            device="meta",
        )
    layer.weight = weight
    if bias is not None:
        layer.bias = bias
    return layer.eval()


def _plain(value: Any) -> Any:
    """Return a list of sizes as torch's modules take it."""
    if isinstance(value, str) or not isinstance(value, (list, tuple)):
        return value
    return value[0] if len(value) == 1 else tuple(value)


def _tensor(module: fx.GraphModule, node: Any) -> nn.Parameter | None:
    """Return the parameter that a node stands for."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    value: Any = module
    for part in str(node.target).split("."):
        value = getattr(value, part, None)
    return value if isinstance(value, nn.Parameter) else None


def _put(module: nn.Module, name: str, layer: nn.Module) -> None:
    """Put a layer where the weight was; the rest of what stood there stays below it."""
    old = module.get_submodule(name)
    for inner, child in old.named_children():
        layer.add_module(inner, child)
    parent, _, own = name.rpartition(".")
    setattr(module.get_submodule(parent), own, layer)
