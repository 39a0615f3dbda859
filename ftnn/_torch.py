"""Autograd rules for torch; imported only once a torch tensor is met."""

import torch

from .linalg import qr_positive


class _Orthonormalize(torch.autograd.Function):
    """Q of a positive-diagonal QR; see :func:`ftnn.linalg.orthonormalize` for the derivation."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y, magnitude):
        q, r, null, scale = qr_positive(y, magnitude)
        return q, r, null, scale

    @staticmethod
    def setup_context(ctx, inputs, output):
        q, r, null, scale = output
        ctx.mark_non_differentiable(r, null, scale)
        ctx.save_for_backward(q, r, null, scale)

    @staticmethod
    def backward(ctx, grad_q, _r, _null, _scale):
        q, r, null, scale = ctx.saved_tensors
        eps = torch.finfo(q.dtype).eps
        # null columns leave the system: no gradient in, identity rows and columns in R
        live = (~null).to(q.dtype)
        grad_q = grad_q * live[..., None, :]
        r = r * live[..., :, None] * live[..., None, :]
        diag = r.diagonal(dim1=-2, dim2=-1).real
        damping = torch.where(null, 1.0, eps / torch.where(null, 1.0, diag))
        r = r + torch.diag_embed(damping).to(q.dtype)

        m = grad_q.mH @ q  # (..., s, s)
        low = m.tril(-1)
        sym = low + low.mH + torch.diag_embed(m.diagonal(dim1=-2, dim2=-1).real).to(q.dtype)
        grad = grad_q - q @ sym
        grad = torch.linalg.solve_triangular(r.mH, grad, upper=False, left=False)
        return grad / scale[..., None, :], None


def orthonormalize_torch(y: torch.Tensor, magnitude: torch.Tensor | None) -> torch.Tensor:
    """Torch version of :func:`ftnn.linalg.orthonormalize`, with its gradient."""
    return _Orthonormalize.apply(y, magnitude)[0]
