"""The truncation methods and what each of them claims.

The table of docs/methods.md and the property tests are both made from :data:`METHODS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..arrays.backend import Array
from ..chains.bonds import MaxBond, output_bonds
from ..chains.terms import Term
from .direct import compress_direct
from .dm import compress_dm
from .fit import compress_fit
from .oversample import compress_src_oversample
from .sdc import compress_sdc
from .src import compress_src, compress_src_adaptive, draw_sketch
from .zipup import compress_zipup

CLAIMS = {
    "batched": "the result for a batch is that of each sample on its own (law 1)",
    "gauge": "the output tensor does not depend on the gauge of the input's bonds (law 2)",
    "cores": "nor do the output cores (law 2, as a nonlinearity on cores needs it)",
    "padding": "zero-padded bonds change nothing (law 3)",
    "width": "exact when max_bond is at least the joint bond of the operands (law 4, in part)",
    "exact": "exact when max_bond is at least the exact rank (law 4)",
    "optimal": "the error is at most the stated factor times the optimum (law 5)",
    "tolerance": "the error is at most rtol; 3 rtol where it is estimated",
    "scales": "correct at any scale of single cores, and for terms of any scales",
    "backends": "the same on every backend (law 6)",
    "gradients": "gradients are finite for every input, correct where the map is smooth (law 7)",
    "long": "the same seed gives the same result; long chains neither overflow nor vanish (law 9)",
}

_ALWAYS = frozenset(set(CLAIMS) - {"cores", "exact", "optimal"})


@dataclass(frozen=True)
class Method:
    """A truncation method.

    Attributes
    ----------
    name : str
        As given to :func:`ftnn.compress`.
    run : callable
        ``(terms, max_bond, rtol, seed) -> (cores, discarded or None)``, without ``seed`` if the
        method is deterministic.
    source : str
    cost : str
        Leading cost per site and sample of a product of bonds D and chi, compressed to chi.
    seeded : bool
        Whether the method draws test matrices.
    error : {"exact", "estimate"}
        Whether its truncation error is exact or estimated.
    claims : frozenset of str
        Keys of :data:`CLAIMS`.
    factor : float or None
        Factor of the claim "optimal", times the root of the sum over the cuts of the best squared
        error.
    digits : float
        Fraction of the digits of the dtype that survives.
    """

    name: str
    run: Callable[..., tuple[tuple[Array, ...], Array | None]]
    source: str
    cost: str
    seeded: bool
    error: str
    claims: frozenset[str]
    factor: float | None = None
    digits: float = 1.0

    def __call__(
        self, terms: tuple[Term, ...], max_bond: MaxBond | None, rtol: float, seed: int
    ) -> tuple[tuple[Array, ...], Array | None]:
        """Compress a sum of terms."""
        options: dict[str, Any] = {"seed": seed} if self.seeded else {}
        return self.run(terms, max_bond, rtol, **options)


def _src(
    terms: tuple[Term, ...], max_bond: MaxBond | None, rtol: float, seed: int
) -> tuple[tuple[Array, ...], None]:
    if rtol > 0.0:
        return compress_src_adaptive(terms, max_bond, rtol, seed), None
    bonds = output_bonds(terms, max_bond)
    return compress_src(terms, draw_sketch(terms, bonds, seed), max_bond), None


METHODS = {
    method.name: method
    for method in (
        Method(
            "direct",
            compress_direct,
            "Oseledets 2011, algorithm 2",
            "(D chi)^3",
            seeded=False,
            error="exact",
            claims=_ALWAYS | {"exact", "optimal"},
            factor=1.0,
        ),
        Method(
            "dm",
            compress_dm,
            "McCulloch 2007; Ma et al. 2024",
            "D^2 chi^3 + D^3 chi^2",
            seeded=False,
            error="exact",
            claims=_ALWAYS | {"exact", "optimal"},
            factor=1.0,
            digits=0.5,
        ),
        Method(
            "zipup",
            compress_zipup,
            "Stoudenmire, White 2010",
            "D chi^3 + D^2 chi^2",
            seeded=False,
            error="estimate",
            claims=_ALWAYS,
        ),
        Method(
            "fit",
            compress_fit,
            "Verstraete, Cirac 2004",
            "D chi^3 + D^2 chi^2",
            seeded=True,
            error="estimate",
            claims=_ALWAYS | {"exact", "optimal", "cores"},
            factor=100.0,
        ),
        Method(
            "src",
            _src,
            "arXiv:2504.06475",
            "D chi^3 + D^2 chi^2",
            seeded=True,
            error="estimate",
            claims=_ALWAYS | {"exact", "optimal", "cores"},
            factor=100.0,
        ),
        Method(
            "src-oversample",
            compress_src_oversample,
            "arXiv:2504.06475, section 3.5",
            "D chi^3 + D^2 chi^2",
            seeded=True,
            error="estimate",
            claims=_ALWAYS | {"exact", "optimal"},
            factor=10.0,
        ),
        Method(
            "sdc",
            compress_sdc,
            "arXiv:2601.19650",
            "D chi^3 + D^2 chi^2",
            seeded=False,
            error="estimate",
            claims=_ALWAYS,
        ),
    )
}
