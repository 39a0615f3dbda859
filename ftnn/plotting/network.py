"""The network of a model, as a tensor-network diagram."""

import os
from dataclasses import dataclass
from io import StringIO
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyArrowPatch, FancyBboxPatch, Patch

from ..chains.bonds import largest_bond
from ..layers.layer import Layer
from ..layers.readouts import Expectation, Head
from ..layers.residual import Residual
from ..layers.sequential import Sequential
from ..nonlinear import KAN, Dropout, FeatureMap
from .style import figure, save_figure, style

INK = "#333333"
MPS_FILL = "#56B4E9"
MPO_FILL = "#E69F00"
CORE_FILL = "#009E73"
READOUT_FILL = "#CC79A7"
BAR_FILL = "#EDEDED"

_GAP = 1.0  # between sites, and between the rows of layers
_LEFT = -0.9  # where the labels on the left end
_SIZE = 0.24


@dataclass
class _Canvas:
    """Axes with the columns of the drawing and its current height."""

    axis: Axes
    columns: list[int | None]  # site of every column; None is an ellipsis
    y: float = 0.0
    bond: int = 2  # of the state; 1 is a product state, drawn without bonds
    state_y: float = 0.0  # height of the latest state, where a skip connection starts

    @property
    def right(self) -> float:
        return (len(self.columns) - 1) * _GAP


def plot_network(model: Layer, path: str | os.PathLike[str], input_bond: int | None = None) -> None:
    """Draw a model as a tensor network, from the input at the top to the outputs at the bottom.

    Circles are cores of states, squares cores of operators; lines between neighbours are bonds,
    vertical lines physical indices. Bonds of dimension 1 are not drawn. A dashed line marks a
    truncation to bond dimension χ. Long chains are drawn with an ellipsis.

    Parameters
    ----------
    model : Layer
        A layer with known input dimensions, or a Sequential of such layers.
    path : path
        Output file; the format follows the name (PNG, SVG, PDF).
    input_bond : int, optional
        Largest bond dimension of the input states, if known.
    """
    with style():
        save_figure(_draw_network(model, input_bond), path)


def network_svg(model: Layer, input_bond: int | None = None) -> str:
    """Draw a model as :func:`plot_network` does, as an SVG to embed in a page.

    Parameters
    ----------
    model : Layer
    input_bond : int, optional
        Largest bond dimension of the input states, if known.

    Returns
    -------
    str
        An ``<svg>`` element.
    """
    text = StringIO()
    with style():
        _draw_network(model, input_bond).savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def _draw_network(model: Layer, input_bond: int | None) -> Figure:
    if model.in_dims is None:
        raise ValueError("model has no in_dims of its own; draw a Linear or a Sequential")
    layers = list(model.layers) if isinstance(model, Sequential) else [model]
    fig = figure(1.0, 1.0)
    axis = fig.add_subplot()
    axis.set_axis_off()
    axis.set_aspect("equal")
    canvas = _Canvas(axis, _columns(len(model.in_dims)))
    widest = canvas.right
    canvas.bond = input_bond or 2
    _sites(canvas, MPS_FILL, "circle", canvas.bond)
    known = f", χ = {input_bond}" if input_bond else ""
    _left(canvas, "input MPS", f"p = {_dims(model.in_dims)}{known}")
    for layer in layers:
        _draw(canvas, layer)
    width, bottom = widest + 6.6, canvas.y - 0.55
    axis.set_xlim(_LEFT - 2.5, widest + 3.2)
    axis.set_ylim(bottom, 0.75)
    fig.set_size_inches(0.62 * width, 0.62 * (0.75 - bottom))
    return fig


def _columns(L: int) -> list[int | None]:
    if L <= 8:
        return list(range(L))
    return [0, 1, None, L // 2, None, L - 2, L - 1]


def _draw(canvas: _Canvas, layer: Layer) -> None:
    match layer:
        case Sequential():
            for child in layer.layers:
                _draw(canvas, child)
        case Residual():
            top = canvas.state_y
            _draw(canvas, layer.children["layer"])
            shortcut = layer.children.get("shortcut")
            name = "" if shortcut is None else type(shortcut).__name__
            _sum(canvas, top, largest_bond(layer.max_bond), name)
        case Dropout():  # in training only
            pass
        case Head():
            _head(canvas, layer)
        case KAN() | FeatureMap():
            _core_functions(canvas, layer)
        case _ if layer.operators():
            _operators(canvas, layer)
        case _:
            fn = getattr(layer, "fn", None)
            _bar(canvas, type(layer).__name__ + (f": {fn}" if isinstance(fn, str) else ""))


def _operators(canvas: _Canvas, layer: Layer) -> None:
    """Draw the operators of a layer: a row of squares, or a box if the number of sites changes."""
    operators, name = layer.operators(), type(layer).__name__
    bond = max((core.shape[3] for cores in operators.values() for core in cores[:-1]), default=1)
    before, after = layer.in_dims, layer.out_dims
    _legs(canvas)
    canvas.y -= _GAP
    if before is not None and after is not None and len(before) != len(after):
        _box(canvas, f"{len(before)} → {len(after)} sites", canvas.y, 0.44, MPO_FILL)
        _left(canvas, name, f"{_map(layer)}, D = {bond}")
        canvas.columns = _columns(len(after))
        _legs(canvas)
        canvas.y -= _GAP
        _sites(canvas, MPS_FILL, "circle", canvas.bond)
        return
    details = [_map(layer), f"D = {bond}"]
    if getattr(layer, "bias", False):
        details.append("bias")
    if len(operators) == 1:
        _sites(canvas, MPO_FILL, "square", bond)
        title = "linear MPO" if name == "Linear" else name
    else:  # the state goes into each, and what they return is multiplied
        _sites(canvas, MPO_FILL, "square", bond, sign="⊙")
        title = f"{name}: {len(operators)} MPOs"
        first, *rest = operators
        gate = f"(1 + {first}x)" if getattr(layer, "offset", False) else f"{first}x"
        details.insert(0, " ⊙ ".join((gate, *(f"{other}x" for other in rest))))
    _left(canvas, title, ", ".join(filter(None, details)))
    max_bond = getattr(layer, "max_bond", None)
    if max_bond is not None:
        _truncation(canvas, largest_bond(max_bond))


def _truncation(canvas: _Canvas, max_bond: int) -> None:
    _legs(canvas)
    y = canvas.y - 0.5 * _GAP
    x0, x1 = -0.45, canvas.right + 0.45
    canvas.axis.plot((x0, x1), (y, y), "--", color=INK, lw=1.0, dashes=(4, 2.5), zorder=5)
    _right(canvas, f"truncate to χ ≤ {max_bond}", y)
    canvas.y -= _GAP
    canvas.bond = max_bond
    _sites(canvas, MPS_FILL, "circle", max_bond)


def _core_functions(canvas: _Canvas, layer: Layer) -> None:
    _legs(canvas)
    canvas.y -= _GAP
    _sites(canvas, CORE_FILL, "circle", canvas.bond, sign="φ")
    _left(canvas, type(layer).__name__, f"{_map(layer)}, on every core".lstrip(", "))


def _bar(canvas: _Canvas, name: str) -> None:
    _legs(canvas)
    y = canvas.y - 0.62 * _GAP
    _box(canvas, name, y, 0.3, BAR_FILL)
    canvas.y, canvas.state_y = y + 0.25, y  # the next row comes closer, as the bar is flat


def _box(canvas: _Canvas, text: str, y: float, height: float, fill: str) -> None:
    """Draw a box across all columns."""
    width = max(canvas.right + 0.64, 1.5)
    box = FancyBboxPatch(
        (canvas.right / 2 - width / 2, y - height / 2),
        width,
        height,
        boxstyle="round,pad=0,rounding_size=0.12",
        facecolor=fill,
        edgecolor=INK,
        lw=1.0,
        zorder=4,
    )
    canvas.axis.add_patch(box)
    canvas.axis.text(
        canvas.right / 2, y - 0.012, text, ha="center", va="center", fontsize=8, color=INK, zorder=6
    )


def _head(canvas: _Canvas, layer: Head) -> None:
    _legs(canvas)
    canvas.y -= _GAP
    bond = largest_bond(layer.bond_dim)
    _sites(canvas, READOUT_FILL, "square", bond)
    expected = isinstance(layer, Expectation)
    name = "expectation of an MPO" if expected else "readout MPS"
    _left(canvas, name, f"D = {bond}")
    site = layer.center if layer.center in canvas.columns else None  # one that is left out
    x = canvas.columns.index(site) * _GAP
    arrow = FancyArrowPatch(
        (x, canvas.y - _SIZE),
        (x, canvas.y - 0.85),
        arrowstyle="-|>",
        mutation_scale=10,
        color=INK,
        lw=1.6,
        shrinkA=0,
        shrinkB=0,
    )
    canvas.axis.add_patch(arrow)
    canvas.y -= 0.85
    canvas.axis.text(
        x,
        canvas.y - 0.1,
        "1 output (dense)" if layer.num_outputs == 1 else f"{layer.num_outputs} logits (dense)",
        ha="center",
        va="top",
        fontsize=9,
        weight="bold",
        color=INK,
    )


def _sum(canvas: _Canvas, top: float, max_bond: int, shortcut: str) -> None:
    """Draw a skip connection from the row at ``top``, with a name, to a truncated sum below."""
    near, far = canvas.right + 0.36, canvas.right + 0.66
    _legs(canvas)
    canvas.y -= _GAP
    canvas.bond = max_bond
    _sites(canvas, MPS_FILL, "circle", max_bond, sign="+")
    _left(canvas, "residual sum", f"truncate to χ ≤ {max_bond}")
    canvas.axis.plot((near, far, far), (top, top, canvas.y), color=INK, lw=1.4, zorder=1)
    middle = (top + canvas.y) / 2
    canvas.axis.text(far + 0.08, middle, shortcut, rotation=90, va="center", fontsize=7, color=INK)
    arrow = FancyArrowPatch(
        (far, canvas.y),
        (near, canvas.y),
        arrowstyle="-|>",
        mutation_scale=9,
        color=INK,
        lw=1.4,
        shrinkA=0,
        shrinkB=0,
    )
    canvas.axis.add_patch(arrow)


def _sites(canvas: _Canvas, color: str, shape: str, bond: int, sign: str = "") -> None:
    """Draw one row of cores with the bonds between them, at the height of the canvas."""
    axis, y = canvas.axis, canvas.y
    canvas.state_y = y
    if bond > 1:
        axis.plot((0, canvas.right), (y, y), color=INK, lw=2.6, zorder=1)
    for n, site in enumerate(canvas.columns):
        x = n * _GAP
        if site is None:
            _ellipsis(axis, x, y)
            continue
        if shape == "circle":
            patch: Patch = Circle((x, y), _SIZE, facecolor=color, edgecolor=INK, lw=1.2, zorder=3)
        else:
            patch = FancyBboxPatch(
                (x - _SIZE + 0.02, y - _SIZE + 0.02),
                2 * _SIZE - 0.04,
                2 * _SIZE - 0.04,
                boxstyle="round,pad=0,rounding_size=0.05",
                facecolor=color,
                edgecolor=INK,
                lw=1.2,
                zorder=3,
            )
        axis.add_patch(patch)
        if sign:
            axis.text(
                x,
                y - 0.015,
                sign,
                ha="center",
                va="center",
                fontsize=9,
                color="white",
                zorder=4,
                weight="bold",
            )
        if y == 0.0:
            axis.text(
                x, y + 0.36, str(site + 1), ha="center", va="bottom", fontsize=7, color="#777777"
            )


def _ellipsis(axis: Axes, x: float, y: float) -> None:
    axis.plot((x - 0.3, x + 0.3), (y, y), color="white", lw=4.5, zorder=2)
    axis.plot((x - 0.16, x, x + 0.16), (y, y, y), "o", color=INK, ms=2.4, zorder=3)


def _legs(canvas: _Canvas) -> None:
    """Draw the physical indices from the current row to the one below."""
    for n, site in enumerate(canvas.columns):
        if site is not None:
            x = n * _GAP
            canvas.axis.plot((x, x), (canvas.y, canvas.y - _GAP), color=INK, lw=1.2, zorder=0)


def _left(canvas: _Canvas, title: str, detail: str) -> None:
    text: dict[str, Any] = {"ha": "right", "color": INK}
    canvas.axis.text(_LEFT, canvas.y + 0.03, title, va="bottom", fontsize=9, weight="bold", **text)
    canvas.axis.text(_LEFT, canvas.y - 0.03, detail, va="top", fontsize=8, **text)


def _right(canvas: _Canvas, text: str, y: float) -> None:
    canvas.axis.text(canvas.right + 0.85, y, text, ha="left", va="center", fontsize=8, color=INK)


def _map(layer: Layer) -> str:
    """Return the physical dimensions that a layer maps."""
    before, after = _dims(layer.in_dims), _dims(layer.out_dims)
    if not before:
        return ""
    return f"p = {before}" if before == after else f"p = {before} → {after}"


def _dims(dims: tuple[int, ...] | None) -> str:
    values = sorted(set(dims or ()))
    return "…".join(str(value) for value in dict.fromkeys(values[:1] + values[-1:]))
