"""Representations of chains: one line of text, and a picture for notebooks."""

from collections.abc import Mapping, Sequence
from html import escape
from math import log2

from autoray import get_dtype_name

from ..arrays.backend import Array
from .placement import place
from .terms import Apply, Hadamard, Node, State, Term

LONGEST = 8
"""Longer tuples of dimensions are abbreviated."""

SITES = 24
"""Longer chains are drawn without their middle."""


def format_dims(dims: Sequence[int]) -> str:
    """Return dimensions as a tuple, abbreviated if there are many.

    Examples
    --------
    >>> format_dims((2, 3)), format_dims((4,) * 40), format_dims((2, 4, 8, *[16] * 30, 8, 4, 2))
    ('(2, 3)', '(4,) * 40', '(2, 4, 8, ..., 4, 2)')
    """
    dims = tuple(int(d) for d in dims)
    if len(dims) <= LONGEST:
        return str(dims)
    if len(set(dims)) == 1:
        return f"({dims[0]},) * {len(dims)}"
    return f"({', '.join(map(str, dims[:3]))}, ..., {', '.join(map(str, dims[-2:]))})"


def format_chain(
    kind: str, sizes: Mapping[str, int | Sequence[int]], like: Array, expression: str = ""
) -> str:
    """Return a one-line description of a chain.

    Parameters
    ----------
    kind : str
        Name of its class.
    sizes : mapping of str to int or sequence of int
        Sizes such as the batch, and dimensions of sites and bonds.
    like : array
        One of its arrays, which gives dtype and backend.
    expression : str
        First entry of the description.

    Examples
    --------
    >>> import numpy as np
    >>> print(format_chain("MPS", {"L": 2, "phys_dims": (3, 3)}, np.zeros(1)))
    MPS(L=2, phys_dims=(3, 3), dtype=float64, backend=numpy)
    """
    parts = [expression] if expression else []
    for name, size in sizes.items():
        parts.append(f"{name}={size if isinstance(size, int) else format_dims(size)}")
        if name == "bond_dims" and "..." in parts[-1]:
            parts.append(f"max_bond={max(size)}")  # type: ignore[arg-type]
    parts += [f"dtype={get_dtype_name(like)}", f"backend={place(like)}"]
    return f"{kind}({', '.join(parts)})"


def format_terms(terms: Sequence[Term]) -> str:
    """Return a sum of terms as an expression.

    Examples
    --------
    >>> import numpy as np, ftnn
    >>> x = ftnn.MPS([np.ones((1, 1, 2, 1))])
    >>> format_terms((ftnn.MPO.random((2,), (2,), 1) @ (x + 2.0 * x) - x * x).terms)
    'MPO @ MPS + 2.0 * MPO @ MPS + -1.0 * (MPS * MPS)'
    """
    shown = [_expression(term) for term in terms[:4]]
    if len(terms) > 4:
        shown[3:] = [f"... ({len(terms)} terms)"]
    return " + ".join(shown)


def _expression(term: Term) -> str:
    if isinstance(term.scale, (int, float, complex)):
        return _node(term.node) if term.scale == 1.0 else f"{term.scale} * {_node(term.node)}"
    return f"factors * {_node(term.node)}"


def _node(node: Node) -> str:
    match node:
        case State():
            return "MPS"
        case Apply(_, child):
            return f"MPO @ {_node(child)}"
        case Hadamard(first, second):
            return f"({_node(first)} * {_node(second)})"


def chain_html(
    title: str, bonds: Sequence[int], below: Sequence[int], above: Sequence[int] | None = None
) -> str:
    """Return a line of text and a drawing of a chain, as HTML.

    Parameters
    ----------
    title : str
    bonds : sequence of int
        The L - 1 bond dimensions; thicker lines are larger bonds.
    below, above : sequence of int
        Dimensions of the legs of every site.

    Examples
    --------
    >>> chain_html("MPS", (3,), (2, 2)).count("<circle")
    2
    """
    L, step, y = len(below), 44, 46 if above else 26
    places: list[int | None] = list(range(L))
    if L > SITES:
        places[SITES // 2 : L - SITES // 2 + 1] = [None]
    parts = []
    for n, k in enumerate(places):
        x = 24 + step * n
        if n + 1 < len(places):
            bond = None if k is None or places[n + 1] is None else bonds[k]
            width = 1.0 if bond is None else 1.0 + 0.5 * log2(bond)
            parts.append(_line(x, y, x + step, y, width, dashed=bond is None))
            if bond is not None:
                parts.append(_text(x + step / 2, y - 8, bond))
        if k is None:
            continue
        for legs, end in ((below, y + 26), (above, y - 26)):
            if legs is not None:
                parts.append(_line(x, y, x, end, 1.0 + 0.5 * log2(legs[k])))
                parts.append(_text(x, end + (11 if end > y else -4), legs[k]))
        parts.append(f'<circle cx="{x}" cy="{y}" r="9" fill="#4c78a8" stroke="#2b4b6f"/>')
    width, height = 48 + step * (len(places) - 1), y + 44
    return (
        f"<samp>{escape(title)}</samp><br>"
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}" role="img">'
        f"{''.join(parts)}</svg>"
    )


def _line(x1: float, y1: float, x2: float, y2: float, width: float, dashed: bool = False) -> str:
    style = ' stroke-dasharray="3 4"' if dashed else ""
    return (
        f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="#777" '
        f'stroke-width="{width:.1f}"{style}/>'
    )


def _text(x: float, y: float, label: int) -> str:
    return (
        f'<text x="{x}" y="{y}" font-size="10" text-anchor="middle" fill="currentColor">'
        f"{label}</text>"
    )
