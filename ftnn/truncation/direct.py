"""Direct compression: merge the tensors of every site, then truncate by SVD (TT rounding)."""

from math import prod

from autoray import do

from ..backend import Array, permute
from ..chain import Term
from ..linalg import abs2, spread, truncated_svd, unit_scale


def compress_direct(
    terms: tuple[Term, ...], max_bond: int | None, rtol: float
) -> tuple[Array, ...]:
    """Optimal-to-sqrt(L) truncation (Oseledets 2011, algorithm 2) of the merged chain.

    Parameters
    ----------
    terms : tuple of Term
    max_bond : int, optional
    rtol : float
        Relative error allowed in each sample; shared equally between the L - 1 cuts.

    Returns
    -------
    tuple of array (batch, left, out, right)
        Left-canonical up to a scale per sample, the same on every core.
    """
    cores = merge(terms)
    L, batch = len(cores), cores[0].shape[0]
    # right to left: orthogonalize, so that the SVD of one core is that of the whole vector
    log_scale = 0.0
    for k in range(L - 1, 0, -1):
        left, out, right = cores[k].shape[1:]
        flat = do("reshape", cores[k], (batch, left, out * right))
        q, r = do("linalg.qr", permute(flat, 0, 2, 1))  # (batch, out*right, n), (batch, n, left)
        cores[k] = do("reshape", permute(q, 0, 2, 1), (batch, -1, out, right))
        scale = unit_scale(r, 1)
        r = permute(r / scale[:, None, None], 0, 2, 1)  # (batch, left, n)
        log_scale = log_scale + do("log", scale)
        before = cores[k - 1]
        flat = do("reshape", before, (batch, prod(before.shape[1:3]), left)) @ r
        cores[k - 1] = do("reshape", flat, (batch, *before.shape[1:3], -1))
    budget = None
    if rtol > 0:
        budget = rtol**2 / max(1, L - 1) * do("sum", abs2(cores[0]), axis=(1, 2, 3))
    for k in range(L - 1):
        left, out, right = cores[k].shape[1:]
        u, s, vh = truncated_svd(
            do("reshape", cores[k], (batch, left * out, right)), max_bond, budget
        )
        cores[k] = do("reshape", u, (batch, left, out, u.shape[2]))
        after = do("reshape", cores[k + 1], (batch, right, -1))
        shape = (batch, u.shape[2], *cores[k + 1].shape[2:])
        cores[k + 1] = do("reshape", (s[:, :, None] * vh) @ after, shape)
    scale = unit_scale(cores[-1], 1)
    cores[-1] = cores[-1] / scale[:, None, None, None]
    return spread(cores, log_scale + do("log", scale))


def merge(terms: tuple[Term, ...]) -> list[Array]:
    """One core a site, exactly: bonds of a product multiply, bonds of a sum add."""
    batch = max(term.batch_size for term in terms)
    L = terms[0].L
    cores = []
    for k in range(L):
        blocks = []
        for term in terms:
            width = term.width(k + 1)
            eye = do("eye", width, like=term.sites[k][0].array)
            eye = do("broadcast_to", eye[None], (batch, width, width))
            block = term.absorb_right(k, eye)  # (batch, left, out, right)
            blocks.append(block * term.scale if k == 0 else block)
        cores.append(_block_diagonal(blocks, first=k == 0, last=k == L - 1))
    return cores


def _block_diagonal(blocks: list[Array], first: bool, last: bool) -> Array:
    if first and last:
        return sum(blocks)
    if first or last:
        return do("concatenate", blocks, axis=3 if first else 1)
    rows = []
    for t, block in enumerate(blocks):
        row = [
            block if t == u else do("zeros", (*block.shape[:3], other.shape[3]), like=block)
            for u, other in enumerate(blocks)
        ]
        rows.append(do("concatenate", row, axis=3))
    return do("concatenate", rows, axis=1)
