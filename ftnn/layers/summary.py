"""Representations of layers: one line, a table, and HTML for notebooks."""

import html as _html
import math
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..arrays.functions import dims_product
from ..chains.bonds import largest_bond
from ..chains.display import format_dims
from .signature import arguments, parameters

if TYPE_CHECKING:
    from .layer import Layer

_DIMS = ("in_dims", "out_dims", "phys_dims")
_HIDDEN = (*_DIMS, "seed")
_LONGEST = 6
"""Number of entries of a sequence that are written out."""


def describe_layer(layer: "Layer") -> str:
    """Return the representation of a layer: its dimensions and its non-default arguments.

    Sublayers follow, indented, as in the representation of a torch module.
    """
    words = []
    own = parameters(type(layer))
    if layer.in_dims is not None and any(parameter.name in _DIMS for parameter in own):
        words.append(_mapping(layer))
    try:
        values = arguments(layer)
    except TypeError:  # a layer that does not keep its arguments still has a representation
        values = {}
    defaults = {parameter.name: parameter.default for parameter in own}
    for name, value in values.items():
        if name not in _HIDDEN and not _same(value, defaults[name]):
            words.append(f"{name}={_short(value)}")
    name, inside = type(layer).__name__, ", ".join(words)
    if not layer.children:
        return f"{name}({inside})"
    lines = [inside] if inside else []
    lines += [f"({key}): {describe_layer(child)}" for key, child in layer.children.items()]
    body = "\n".join(lines).replace("\n", "\n  ")
    return f"{name}(\n  {body}\n)"


def table(model: "Layer") -> str:
    """Return a table of the layers of a model and the totals; see :meth:`ftnn.Layer.summary`."""
    rows = [("path", "type", "dims", "weight bond", "max bond", "params", "dense params")]
    dense_total = 0
    for path, layer in model.walk():
        if layer.children and not layer.params and not hasattr(layer, "max_bond"):
            continue  # it only holds other layers
        own = sum(dims_product(array.shape) for array in layer.params.values())
        dense = layer.dense_params()
        dense_total += own if dense is None else dense
        operators = list(layer.operators().values())
        bonds = [core.shape[3] for cores in operators for core in cores[:-1]]
        max_bond = getattr(layer, "max_bond", None)
        rows.append(
            (
                path.rstrip(".") or "-",
                type(layer).__name__,
                "" if layer.in_dims is None else _mapping(layer, outputs=True),
                str(max(bonds, default=1)) if operators else "",
                "" if max_bond is None else str(largest_bond(max_bond)),
                f"{own:,}" if own else "",
                "" if dense is None else _number(dense),
            )
        )
    lines = aligned(rows, 3)
    lines.insert(1, "-" * max(map(len, lines)))
    total = model.num_params()
    lines.append(lines[1])
    lines.append(f"{total:,} parameters; {_number(dense_total)} as dense matrices")
    if 0 < total < dense_total:
        ratio = math.log10(dense_total) - math.log10(total)
        times = f"{10**ratio:,.1f}" if ratio < 6 else _power(ratio)
        lines[-1] += f", {times} times as many"
    return "\n".join(lines)


def html(model: "Layer") -> str:
    """Return the summary and, where matplotlib is installed, the picture of the network."""
    text = f"<pre>{_html.escape(table(model))}</pre>"
    # imported by the name of the package: layers must not depend on the plotting package
    package = import_module(__package__.partition(".")[0])
    try:
        return package.plotting.network_svg(model) + text
    except (ImportError, ValueError):  # no matplotlib; no dimensions to draw
        return text


def _mapping(layer: "Layer", outputs: bool = False) -> str:
    """Return the dimensions that a layer maps, optionally with those of dense outputs."""
    first = _short(layer.in_dims)
    if layer.out_dims is None:
        number = getattr(layer, "num_outputs", None)
        return f"{first} -> {number}" if outputs and number is not None else first
    names = {parameter.name for parameter in parameters(type(layer))}
    if layer.out_dims == layer.in_dims and "in_dims" not in names:
        return first
    return f"{first} -> {_short(layer.out_dims)}"


def _short(value: Any) -> str:
    if isinstance(value, tuple) and all(isinstance(entry, int) for entry in value):
        return format_dims(value)
    if isinstance(value, (tuple, list)) and len(value) > _LONGEST:
        return f"[{value[0]!r}, {value[1]!r}, ..., {value[-1]!r}]"
    if callable(value):
        return getattr(value, "__name__", type(value).__name__)
    return repr(value)


def _same(value: Any, default: Any) -> bool:
    try:
        return bool(value == default)
    except ValueError:  # arrays
        return False


def _number(number: int) -> str:
    return f"{number:,}" if number < 10**9 else _power(math.log10(number))


def _power(log10: float) -> str:
    exponent = math.floor(log10 + 0.0218)  # 9.51 and more round to 10.0
    return f"{max(1.0, 10 ** (log10 - exponent)):.1f}e{exponent}"


def aligned(rows: Sequence[Sequence[str]], left: int) -> list[str]:
    """Return rows of cells as lines of text: ``left`` columns to the left, the others to the right.

    Examples
    --------
    >>> aligned([("layer", "size"), ("0", "64")], left=1)
    ['layer  size', '0        64']
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if n < left else cell.rjust(width)
            for n, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
