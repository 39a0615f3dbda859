"""Autograd rules for torch; imported only once a torch tensor is met."""

from importlib import import_module

import numpy as np
import torch
from autoray import get_lib_fn

from .backend import convert
from .contraction import pairs
from .linalg import lq_positive, orthonormal_rows, orthonormalize_vjp
from .svd import hermitian_vectors_vjp, left_singular_vjp

# torch.compile cannot follow autoray when it looks a function up, which it does once: do it now
_USED = """abs all argmax astype broadcast_to complex64 complex128 concatenate conj copysign cumsum
    einsum exp eye flip float32 float64 imag isfinite linalg.eigh linalg.solve linalg.svd log
    logical_not max maximum minimum ones ones_like real reshape sin sqrt stack sum swapaxes tanh
    transpose where zeros_like"""
for name in _USED.split():
    get_lib_fn("torch", name)


def is_compiling():
    """Whether torch.compile is tracing."""
    return torch.compiler.is_compiling()


def contract_compiled(arrays, inputs, output):
    """Version of :func:`ftnn.contraction.contract` that torch.compile can trace."""
    shapes = tuple(tuple(array.shape) for array in arrays)
    for first, second, equation in _pairs(tuple(inputs), output, shapes):
        pair = arrays[first], arrays[second]
        arrays = [x for n, x in enumerate(arrays) if n not in (first, second)]
        # a copy, for what einsum returns does not always lie in memory as the compiler thinks
        new = torch.einsum(equation, *pair).clone(memory_format=torch.contiguous_format)
        arrays.append(new)
    return arrays[0]


_pairs = torch.compiler.assume_constant_result(pairs)


def drawn_torch(draw, arguments, dtype, device):
    """Torch version of :func:`ftnn.backend.drawn`."""
    if is_compiling():
        name = draw.__name__
        return tuple(_drawn(draw.__module__, name, list(arguments), getattr(torch, dtype), device))
    return tuple(convert(x, "torch", dtype, device) for x in draw(*arguments))


@torch.library.custom_op("ftnn::drawn", mutates_args=())
def _drawn(
    module: str, name: str, arguments: list[int], dtype: torch.dtype, device: torch.device
) -> list[torch.Tensor]:
    # an operation of its own: torch.compile can neither trace NumPy's generator nor keep more
    # than one array from it as a constant
    arrays = getattr(import_module(module), name)(*arguments)
    return [torch.from_numpy(np.array(x)).to(dtype=dtype, device=device) for x in arrays]


@_drawn.register_fake
def _(module, name, arguments, dtype, device):
    arrays = getattr(import_module(module), name)(*arguments)
    return [torch.empty(x.shape, dtype=dtype, device=device) for x in arrays]


class _Orthonormalize(torch.autograd.Function):
    """Q of a positive-diagonal LQ; see :func:`ftnn.linalg.orthonormalize` for the derivation."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y, magnitude):
        return lq_positive(y, magnitude)

    @staticmethod
    def setup_context(ctx, inputs, output):
        q, low, null, scale = output
        ctx.mark_non_differentiable(low, null, scale)
        ctx.save_for_backward(q, low, null, scale)

    @staticmethod
    def backward(ctx, grad_q, _low, _null, _scale):
        return orthonormalize_vjp(grad_q, *ctx.saved_tensors), None


def orthonormalize_torch(y: torch.Tensor, magnitude: torch.Tensor | None) -> torch.Tensor:
    """Torch version of :func:`ftnn.linalg.orthonormalize`, with its gradient."""
    if not (torch.is_grad_enabled() and y.requires_grad):
        return orthonormal_rows(y, magnitude)[0].to(y.dtype)
    return _Orthonormalize.apply(y, magnitude)[0]


class _SharedMatmul(torch.autograd.Function):
    """Product of one matrix with a stack.

    The gradient of the matrix is one product over all of the stack, where copying its operands
    into place moves less memory than what torch's own does: form a matrix for every element of
    the stack, and then add them up.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(shared, stack):
        return _broadcast(shared, stack)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, grad):
        shared, stack = ctx.saved_tensors
        (m, k), n = shared.shape, stack.shape[-1]
        if m * k > (m + k) * n:
            flat = grad.movedim(-2, 0).reshape(m, -1)  # (m, ... n)
            grad_shared = flat @ stack.movedim(-2, 0).reshape(k, -1).mH
        else:
            grad_shared = (grad @ stack.mH).sum(tuple(range(stack.ndim - 2)))
        return grad_shared, _broadcast(shared.mH, grad)


def _broadcast(shared: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
    # with both operands of as many dimensions torch runs a batched product; else it would copy
    return shared.reshape(*[1] * (stack.ndim - 2), *shared.shape) @ stack


def shared_matmul_torch(shared: torch.Tensor, stack: torch.Tensor) -> torch.Tensor:
    """Torch version of :func:`ftnn.backend.shared_matmul`, with its gradient."""
    if torch.is_grad_enabled() and shared.requires_grad:
        return _SharedMatmul.apply(shared, stack)
    return _broadcast(shared, stack)


class _LeftSingular(torch.autograd.Function):
    """Left singular vectors; see :func:`ftnn.svd.left_singular` for the derivation."""

    generate_vmap_rule = True

    @staticmethod
    def forward(y):
        return torch.linalg.svd(y, full_matrices=False)

    @staticmethod
    def setup_context(ctx, inputs, output):
        u, s, vh = output
        ctx.mark_non_differentiable(s, vh)
        ctx.save_for_backward(u, s, vh)

    @staticmethod
    def backward(ctx, grad_u, _s, _vh):
        return left_singular_vjp(grad_u, *ctx.saved_tensors)


def left_singular_torch(y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Torch version of :func:`ftnn.svd.left_singular`, with its gradient."""
    u, s, _ = _LeftSingular.apply(y)
    return u, s


class _HermitianVectors(torch.autograd.Function):
    """Eigenvectors of Hermitian matrices, eigenvalues descending."""

    generate_vmap_rule = True

    @staticmethod
    def forward(h):
        values, vectors = torch.linalg.eigh(h)
        return values.flip(-1), vectors.flip(-1)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(output[0])
        ctx.save_for_backward(*output)

    @staticmethod
    def backward(ctx, _values, grad_u):
        return hermitian_vectors_vjp(grad_u, *ctx.saved_tensors)


def hermitian_vectors_torch(h: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Torch version of :func:`ftnn.svd.hermitian_vectors`, with its gradient."""
    values, vectors = _HermitianVectors.apply(h)
    return vectors, values
