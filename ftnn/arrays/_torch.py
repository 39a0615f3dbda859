"""Autograd rules for torch; imported only once a torch tensor is met."""

from importlib import import_module

import numpy as np
import torch
from autoray import get_lib_fn

from ..chains import product
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
    """Version of :func:`ftnn.arrays.contraction.contract` that torch.compile can trace."""
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
    """Torch version of :func:`ftnn.arrays.backend.drawn`."""
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
    """Q of a positive-diagonal LQ; derived at :func:`ftnn.arrays.linalg.orthonormalize`."""

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
    """Torch version of :func:`ftnn.arrays.linalg.orthonormalize`, with its gradient."""
    if not (torch.is_grad_enabled() and y.requires_grad):
        return orthonormal_rows(y, magnitude)[0].to(y.dtype)
    return _Orthonormalize.apply(y, magnitude)[0]


class _KeepsInputs(torch.autograd.Function):
    """What lies between inputs and output is computed again in the backward pass."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)


class _Extend(_KeepsInputs):
    """A step of the left sweep; see :func:`ftnn.chains.product.extend_vjp` for the derivation."""

    @staticmethod
    def forward(env, core, sketched):
        return product.extend(env, core, sketched)

    @staticmethod
    def backward(ctx, grad):
        env, core, sketched = ctx.saved_tensors
        return product.extend_vjp(grad, env, core, sketched, ctx.needs_input_grad[1])


class _Absorb(_KeepsInputs):
    """A step of the right sweep; see :func:`ftnn.chains.product.absorb_vjp` for the derivation."""

    @staticmethod
    def forward(weight, core, env):
        return product.absorb(weight, core, env)

    @staticmethod
    def backward(ctx, grad):
        weight, core, env = ctx.saved_tensors
        return product.absorb_vjp(grad, weight, core, env, ctx.needs_input_grad[1])


def extend_torch(env, core, sketched):
    """Torch version of :func:`ftnn.chains.product.extend`, with its gradient."""
    return _applied(_Extend, product.extend, env, core, sketched)


def absorb_torch(weight, core, env):
    """Torch version of :func:`ftnn.chains.product.absorb`, with its gradient."""
    return _applied(_Absorb, product.absorb, weight, core, env)


def _applied(rule, function, *inputs):
    """Apply a function by its autograd rule, which has its price, only where it is recorded."""
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        return rule.apply(*inputs)
    return function(*inputs)


class _LeftSingular(torch.autograd.Function):
    """Left singular vectors; see :func:`ftnn.arrays.svd.left_singular` for the derivation."""

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
    """Torch version of :func:`ftnn.arrays.svd.left_singular`, with its gradient."""
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
    """Torch version of :func:`ftnn.arrays.svd.hermitian_vectors`, with its gradient."""
    values, vectors = _HermitianVectors.apply(h)
    return vectors, values
