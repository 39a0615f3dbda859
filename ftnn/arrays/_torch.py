"""Torch implementations; imported when the first torch tensor is encountered."""

from functools import partial
from importlib import import_module

import numpy as np
import torch
from autoray import get_dtype_name, get_lib_fn
from torch.utils.checkpoint import checkpoint

from . import backend, functions
from .backend import convert, real_name, to_numpy
from .contraction import contract, contract_by_plan, pairs
from .dispatch import implementation
from .gradients import differentiable
from .random import draw_arrays, random_uniform
from .recompute import RECOMPUTING, recompute, step_of_truncation

on_torch = partial(implementation, "torch")

# torch.compile cannot trace autoray's lookup of a function, which happens once: do it now
_USED = """
    abs all argmax argsort astype broadcast_to complex128 complex64 concatenate conj copysign cumsum
    einsum exp eye flip float32 float64 get_dtype_name imag isfinite linalg.eigh
    linalg.solve linalg.svd log logical_not max maximum minimum ones ones_like real reshape
    sin sqrt stack sum swapaxes tanh transpose where zeros zeros_like"""
for name in _USED.split():
    get_lib_fn("torch", name)


# ---- gradients -----------------------------------------------------------------------------------


@on_torch(differentiable)
def _(rule, backend):
    class Function(torch.autograd.Function):
        generate_vmap_rule = True

        @staticmethod
        def forward(*inputs):
            return rule.forward(*inputs)

        @staticmethod
        def setup_context(ctx, inputs, output):
            if rule.save == "inputs":
                ctx.save_for_backward(*inputs)
            else:
                ctx.mark_non_differentiable(*output[1:])
                ctx.save_for_backward(*output)

        @staticmethod
        def backward(ctx, grad, *_):
            return rule.vjp(grad, ctx.needs_input_grad, *ctx.saved_tensors)

    def function(*inputs):
        # a custom rule has a cost: use it only where gradients are recorded
        if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in inputs):
            return rule.visible(Function.apply(*inputs))
        return rule.without_gradient(*inputs)

    return function


@on_torch(functions.stop_gradient)
def _(x):
    return x.detach()


@on_torch(recompute)
def _(function, cores):
    return checkpoint(function, cores, use_reentrant=False)


@on_torch(step_of_truncation)
def _(function, arrays):
    # the compiler cannot follow a context variable
    if not torch.compiler.is_compiling() and RECOMPUTING.get():
        return recompute(function, arrays)
    return function(arrays)


# ---- conversion ----------------------------------------------------------------------------------


@on_torch(backend.to_numpy)
def _(x):
    return x.detach().cpu().resolve_conj().numpy()


@on_torch(backend._convert)
def _(x, backend, dtype, device):
    if not isinstance(x, torch.Tensor):
        x = torch.from_numpy(np.array(to_numpy(x)))
    try:
        return x.detach().to(dtype=getattr(torch, dtype), device=device)
    except (AssertionError, RuntimeError) as error:
        if device is None or isinstance(error, torch.cuda.OutOfMemoryError):
            raise
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"device is {str(device)!r}, which torch cannot use ({reason}); choose cpu, or one of "
            "this machine"
        ) from None


@on_torch(backend.device_of)
def _(x):
    return x.device


@on_torch(backend.as_index)
def _(x, like):
    return torch.from_numpy(x).to(like.device)


@on_torch(backend.synchronize)
def _(place):
    device = place.partition("-")[2]
    if device.startswith("cuda"):
        torch.cuda.synchronize(device)


# ---- functions -----------------------------------------------------------------------------------


@on_torch(functions.diagonal)
def _(x):
    return x.diagonal(dim1=-2, dim2=-1)


@on_torch(functions.add_diagonal)
def _(x, values):
    x.diagonal(dim1=-2, dim2=-1).add_(values)
    return x


@on_torch(functions.tril)
def _(x, k=0):
    return x.tril(k)


@on_torch(functions.largest)
def _(x, axis):
    return x.amax(dim=axis, keepdim=True)


@on_torch(functions.at_least)
def _(x, bound):
    return x.clamp(bound)


@on_torch(functions.at_most)
def _(x, bound):
    return x.clamp(max=bound)


@on_torch(functions.replace_small)
def _(x, bound, value):
    return torch.threshold(x, bound, value)  # one operator instead of two, each twice as slow


@on_torch(functions.replace_zeros)
def _(x, bound=0.0):
    return torch.threshold(x, bound, 1.0)


@on_torch(functions.sum_over)
def _(x, axes):
    return x.sum(axes)


@on_torch(functions.norm)
def _(x, axes):
    return torch.linalg.vector_norm(x, dim=axes)


@on_torch(functions.peaks)
def _(x):
    # torch.linalg.vector_norm(x, inf) makes no array of moduli, but takes 15 times as long on a CPU
    return x.detach().abs().amax(dim=tuple(range(1, x.ndim)))


@on_torch(functions.erf)
def _(x):
    return x.erf()


@on_torch(functions.cholesky)
def _(x):
    return torch.linalg.cholesky_ex(x).L


@on_torch(functions.invert_lower)
def _(x):
    eye = torch.eye(x.shape[-1], dtype=x.dtype, device=x.device).expand(x.shape)
    # LAPACK returns column-major solutions: make this one row-major
    return torch.linalg.solve_triangular(x.mT, eye, upper=True).mT


@on_torch(functions.thin_svd)
def _(x):
    return torch.linalg.svd(x, full_matrices=False)


@on_torch(functions.singular_values)
def _(x):
    return torch.linalg.svdvals(x)


@on_torch(functions.take_along)
def _(x, index, axis):
    return x.gather(axis, index)


@on_torch(functions.pivot_rows)
def _(x):
    factors = torch.linalg.lu_factor_ex(x)
    permutations = torch.lu_unpack(factors.LU, factors.pivots, unpack_data=False)[0]
    return permutations.real.argmax(-2)[:, : x.shape[2]]


@on_torch(functions.concat)
def _(arrays, axis):
    return torch.cat(list(arrays), axis)


@on_torch(functions.stack)
def _(arrays, axis):
    return torch.stack(list(arrays), axis)


# ---- contraction under torch.compile -------------------------------------------------------------


@on_torch(contract)
def _(arrays, inputs, output):
    if not torch.compiler.is_compiling():
        return contract_by_plan(arrays, inputs, output)
    # cotengra's own caches and locks cannot be traced
    shapes = tuple(tuple(array.shape) for array in arrays)
    for first, second, equation in _pairs(tuple(inputs), output, shapes):
        pair = arrays[first], arrays[second]
        arrays = [x for n, x in enumerate(arrays) if n not in (first, second)]
        # a copy, since einsum does not always return the memory layout that the compiler assumes
        new = torch.einsum(equation, *pair).clone(memory_format=torch.contiguous_format)
        arrays.append(new)
    return arrays[0]


_pairs = torch.compiler.assume_constant_result(pairs)


# ---- random numbers ------------------------------------------------------------------------------


@on_torch(random_uniform)
def _(shape, like, rng):
    return torch.rand(shape, dtype=getattr(torch, real_name(like)), device=like.device)


@on_torch(draw_arrays)
def _(draw, *arguments, like):
    if torch.compiler.is_compiling():
        module, name = draw.__module__, draw.__name__
        return tuple(_draw_arrays(module, name, list(arguments), like.dtype, like.device))
    dtype = get_dtype_name(like)
    return tuple(convert(x, "torch", dtype, like.device) for x in draw(*arguments))


@torch.library.custom_op("ftnn::draw_arrays", mutates_args=())
def _draw_arrays(
    module: str, name: str, arguments: list[int], dtype: torch.dtype, device: torch.device
) -> list[torch.Tensor]:
    # an operation of its own: torch.compile can neither trace NumPy's generator nor keep more
    # than one array from it as a constant
    arrays = getattr(import_module(module), name)(*arguments)
    return [torch.from_numpy(np.array(x)).to(dtype=dtype, device=device) for x in arrays]


@_draw_arrays.register_fake
def _(module, name, arguments, dtype, device):
    arrays = getattr(import_module(module), name)(*arguments)
    return [torch.empty(x.shape, dtype=dtype, device=device) for x in arrays]
