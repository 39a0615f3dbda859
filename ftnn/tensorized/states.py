"""from_dense: a network of linear layers and functions of entries, put on states."""

import copy
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..chains import dims as chain_dims
from ..chains.bonds import MaxBond, check_bonds, largest_bond
from ..layers.dense import dense_arrays
from ..layers.sequential import Sequential
from .counterparts import Counterparts, name_of
from .dims import check_dims, factors
from .linear import Linear as TensorizedLinear
from .linear import is_transposed
from .network import Network
from .ordering import ordered

SITES = 4
"""Number of sites, unless dimensions are given."""

ENTRYWISE = (
    nn.CELU, nn.ELU, nn.GELU, nn.Hardshrink, nn.Hardsigmoid, nn.Hardswish, nn.Hardtanh,
    nn.LeakyReLU, nn.LogSigmoid, nn.Mish, nn.ReLU6, nn.SELU, nn.Softplus, nn.Softshrink,
    nn.Softsign, nn.Tanhshrink, nn.Threshold,
)  # fmt: skip
"""Functions that only torch has."""

IGNORED = (nn.Identity, nn.Dropout, nn.AlphaDropout, nn.FeatureAlphaDropout)
"""What does nothing in evaluation."""


def from_dense(
    model: nn.Sequential,
    in_dims: Sequence[int] | None,
    bond_dim: MaxBond | None,
    max_bond: MaxBond | None,
    inputs: Tensor | None = None,
    hidden_dims: Sequence[Sequence[int]] | None = None,
    nonlinearity: Literal["elementwise", "kan"] = "elementwise",
    moments: bool | None = None,
    order: bool = True,
    function_bond: int | None = None,
    method: str | None = None,
    seed: int = 0,
) -> Network:
    r"""Turn a trained network of linear layers and functions of entries into one on states.

    Every linear layer becomes an :class:`ftnn.Linear` (:meth:`ftnn.Linear.from_dense`), the last
    module, if it is one, an :class:`ftnn.Readout`, and every function of entries an
    :class:`ftnn.nonlinear.Elementwise`. With all bonds None the network is the same function; with
    smaller ones an approximation, whose errors are told layer by layer.

    Parameters
    ----------
    model : torch.nn.Sequential
        Of ``Linear`` (or ``Conv1D`` of transformers, or :class:`ftnn.tensorized.Linear`), functions
        of entries such as ``ReLU``, ``GELU`` or ``Tanh``, ``Flatten`` at the start, ``Dropout`` and
        ``Identity``, also nested. It is not changed, and is taken as in evaluation.
    in_dims : sequence of int, optional
        Dimensions of the sites of the input, whose product is the number of its features, or more:
        it is then padded with zeros. By default four factors.
    bond_dim : int or sequence of int, optional
        Of the weights; None for exact ones.
    max_bond : int or sequence of int, optional
        Of all states; None for the largest there is, with which nothing is truncated.
    inputs : Tensor (n, ...), optional
        Calibration inputs of ``model``. The first 256 are those on which errors are measured.
    hidden_dims : sequence of sequence of int, optional
        Dimensions of the output of every linear layer but a last one, as ``in_dims``.
    nonlinearity : {"elementwise", "kan"}
        "kan" puts a trainable :class:`ftnn.nonlinear.KAN` in the place of every function, fitted
        to it on the inputs by least squares. It acts on entries of cores, not of the vector, and is
        a start for training rather than an approximation; see :func:`ftnn.nonlinear.fit_kan`.
    moments : bool, optional
        Whether weights are fitted in the metric of the inputs of their layers, for which there
        must be many; by default where there are more inputs than any layer has features.
    order : bool
        Whether hidden neurons that are alike on the inputs become neighbours, which changes no
        function and makes activations closer to states of small bonds.
    function_bond : int, optional
        Bond of the results of functions, which is larger than that of what they act on; by default
        twice ``max_bond``.
    method : str, optional
        Truncation method of the linear layers. Activations are far from states of small bonds, so
        that by default it is "direct", the most accurate; "src" where nothing is truncated.
    seed : int

    Returns
    -------
    Network
        Its ``model`` is on NumPy in double precision, or on torch if a function has no name of its
        own, such as ``LeakyReLU``.

    Raises
    ------
    TypeError
        If ``model`` is no ``Sequential``.
    ValueError
        If it has another module, or dims or bonds do not fit.

    Examples
    --------
    >>> import torch, ftnn
    >>> dense = torch.nn.Sequential(
    ...     torch.nn.Linear(64, 32), torch.nn.Tanh(), torch.nn.Linear(32, 10)
    ... )
    >>> x = torch.randn(20, 64, generator=torch.Generator().manual_seed(0))
    >>> found = ftnn.from_dense(dense, (4, 4, 4), None, None, inputs=x)
    >>> y = found.model(found.encode(x))
    >>> bool(abs(y - dense(x).detach().numpy()).max() < 1e-5), found.error < 1e-10
    (True, True)
    """
    modules = _flat(model)
    linears = [n for n, (_, module) in enumerate(modules) if isinstance(module, nn.Linear)]
    if not linears:
        raise ValueError("the model has no linear layer, which its input could be encoded for")
    if nonlinearity not in ("elementwise", "kan"):
        raise ValueError(f"nonlinearity is {nonlinearity!r}, expected 'elementwise' or 'kan'")
    widths, dims = _sizes([modules[n] for n in linears], in_dims, hidden_dims)
    if max_bond is not None:
        max_bond = check_bonds(max_bond, len(dims[0]))
    x = None if inputs is None else _checked(inputs, widths[0])
    if x is None and (moments or nonlinearity == "kan"):
        raise ValueError("moments and 'kan' need calibration inputs; give inputs")
    if moments is None:
        moments = x is not None and len(x) > max(widths[:-1])
    if x is not None and order:
        modules = ordered(modules, x)
    named = all(isinstance(module, nn.Linear) or name_of(module) for _, module in modules)
    backend = "numpy" if named or nonlinearity == "kan" else "torch"
    if function_bond is None:
        function_bond = None if max_bond is None else 2 * largest_bond(max_bond)
    else:
        chain_dims.check_positive(function_bond, "function_bond")
    if method is None:
        method = "src" if max_bond is None else "direct"
    maker = Counterparts(
        bond_dim, max_bond, function_bond, nonlinearity, moments, method, seed, backend
    )
    maker.start(x, widths[0], dims[0])
    at = 0
    for n, (name, module) in enumerate(modules):
        if n not in linears:
            maker.add(name, module, maker.function(module), widths[at], dims[at])
            continue
        at += 1
        head = n == len(modules) - 1
        layer = maker.linear(module, dims[at - 1], None if head else dims[at])
        maker.add(name, module, layer, widths[at], (widths[at],) if head else dims[at])
    params = sum(parameter.numel() for parameter in model.parameters())
    return Network(
        Sequential(*maker.layers), tuple(maker.rows), dims[0], widths[0], max_bond, params
    )


# ---- arguments -----------------------------------------------------------------------------------


def _flat(model: nn.Sequential) -> list[tuple[str, nn.Module]]:
    """Return the modules of a network that do something, in double precision, by their names."""
    if not isinstance(model, nn.Sequential):
        raise TypeError(
            f"model is a {type(model).__name__}, expected a torch.nn.Sequential; for a single "
            "layer use ftnn.Linear.from_dense"
        )
    found: list[tuple[str, nn.Module]] = []
    for name, module in model.named_modules(remove_duplicate=False):
        if isinstance(module, (nn.Sequential, *IGNORED)):
            continue
        if any(name.startswith(f"{other}.") for other, _ in found):
            continue  # inside of a module
        ends = getattr(module, "start_dim", None), getattr(module, "end_dim", None)
        if isinstance(module, nn.Flatten) and not found and ends == (1, -1):
            continue
        if isinstance(module, (TensorizedLinear, nn.Linear)) or is_transposed(module):
            try:
                found.append((name, _linear(module)))
            except (TypeError, ValueError) as error:
                raise type(error)(f"model has {name!r}, {module}: {error}") from None
        elif name_of(module) or isinstance(module, ENTRYWISE):
            new = copy.deepcopy(module).double().cpu().eval()
            if getattr(new, "inplace", False):
                new.inplace = False  # type: ignore[assignment]
            found.append((name, new))
        else:
            raise ValueError(f"model has {name!r}, {module}, {_remedy(module)}")
    return found


def _remedy(module: nn.Module) -> str:
    """Tell what to do about a module that has no counterpart."""
    if isinstance(module, nn.BatchNorm1d):
        return (
            "which must first be folded into the layer before: "
            "torch.nn.utils.fusion.fuse_linear_bn_eval"
        )
    return (
        "which has no counterpart on states; expected Linear, functions of entries such as ReLU, "
        "Dropout, Identity, and Flatten at the start"
    )


def _linear(module: nn.Module) -> nn.Linear:
    """Return a linear layer as one of torch, in double precision."""
    if isinstance(module, TensorizedLinear):
        module = module.to_dense()
    weight, bias = dense_arrays(module)
    found = nn.Linear(weight.shape[1], len(weight), bias is not None, dtype=torch.float64)
    with torch.no_grad():
        found.weight.copy_(torch.from_numpy(weight))
        if bias is not None:
            found.bias.copy_(torch.from_numpy(bias))
    return found


def _sizes(
    linears: list[tuple[str, nn.Module]],
    in_dims: Sequence[int] | None,
    hidden_dims: Sequence[Sequence[int]] | None,
) -> tuple[list[int], list[tuple[int, ...]]]:
    """Return features and dimensions of the input and of the output of every linear layer."""
    widths = [int(linears[0][1].in_features)]  # type: ignore[arg-type]
    for name, layer in linears:
        if layer.in_features != widths[-1]:
            raise ValueError(
                f"model has {name!r} with {layer.in_features} inputs, but gets {widths[-1]}"
            )
        widths.append(int(layer.out_features))  # type: ignore[arg-type]
    first = factors(widths[0], SITES) if in_dims is None else in_dims
    dims = [chain_dims.check_dims(first, "in_dims")]
    check_dims(dims[0], widths[0], "in_dims")
    given = [*hidden_dims] if hidden_dims is not None else []
    if hidden_dims is not None and len(given) not in (len(linears) - 1, len(linears)):
        raise ValueError(
            f"hidden_dims are {len(given)}, expected {len(linears) - 1}: of the output of every "
            "linear layer but the last"
        )
    for n, width in enumerate(widths[1:]):
        own = given[n] if n < len(given) else factors(width, len(dims[0]))
        own = chain_dims.check_dims(own, f"hidden_dims[{n}]")
        check_dims(own, width, f"hidden_dims[{n}]")
        if len(own) != len(dims[0]):
            raise ValueError(
                f"hidden_dims[{n}] has {len(own)} sites and in_dims {len(dims[0])}; both need the "
                "same"
            )
        dims.append(own)
    return widths, dims


def _checked(inputs: Tensor, width: int) -> np.ndarray:
    """Return calibration inputs as rows, in double precision."""
    if not isinstance(inputs, Tensor):
        raise TypeError(f"inputs is a {type(inputs).__name__}, expected a tensor (n, ...)")
    if inputs.ndim < 2 or not len(inputs) or inputs[0].numel() != width:
        raise ValueError(
            f"inputs have shape {tuple(inputs.shape)}, expected (n, ...) with {width} features each"
        )
    if not torch.isfinite(inputs).all():
        raise ValueError("inputs have values that are not finite; check the calibration data")
    return inputs.detach().cpu().double().reshape(len(inputs), -1).numpy()
