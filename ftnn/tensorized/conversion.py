"""A trained model becomes one of tensor networks, within a budget of parameters."""

import copy
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from .budget import Choice, hull, spend
from .candidates import Candidate, candidates, formats_for
from .difference import Difference, check_difference
from .formats import CONV, EMBEDDING, LINEAR
from .module import TensorizedModule
from .places import Place, call, find_places, observe, put
from .probes import Probes
from .tensorization import Row, Tensorization


def tensorize(
    model: nn.Module,
    calibration: Iterable[Any] | None = None,
    params: float | None = None,
    ratio: float | None = None,
    max_error: float | None = None,
    formats: str | Sequence[str] = "auto",
    skip: str | Sequence[str] = (),
    difference: Literal["auto"] | Difference = "auto",
    forward: Callable[[nn.Module, Any], Any] = call,
    progress: Callable[[str], None] | None = None,
) -> Tensorization:
    """Replace layers of a trained model by tensor networks, within one budget of parameters.

    Linear layers, convolutions and embeddings are fitted in several formats and sizes, in the
    metric of what they were called with on the calibration batches; each is tried in the model,
    and the budget is spent where it lowers the error of the outputs most. Layers that gain
    nothing stay dense. The given model is not changed.

    Parameters
    ----------
    model : torch.nn.Module
        Any model: layers are found by their class, whatever calls them.
    calibration : iterable, optional
        Batches of the training data, a few hundred samples or more: tensors, mappings of
        arguments, or tuples of which the first entry is the input. Gone through once. Without
        them, weights are fitted in the Frobenius norm.
    params : float or int
        Budget of the whole model: a fraction of its parameters if less than 1, else their number.
    ratio : float
        By how much the number of parameters falls.
    max_error : float
        Largest difference of the outputs on the calibration batches: relative error, or divergence
        in nats; then the parameters are as few as are found. One of params, ratio and max_error is
        required.
    formats : "auto" or sequence of str
        Formats to try, of those of the layers: "svd", "mpo", "tt", "ring", "tree"; "tucker", "cp",
        "tt"; "mpo".
    skip : str or sequence of str
        Names of layers, or of modules with all their layers, that stay dense; layers that no
        calibration batch reaches stay dense, too.
    difference : {"auto", "l2", "kl"} or callable
        Of outputs and dense outputs: their relative error; the divergence of the probabilities
        whose logits they are; or any function of two tensors. By default "kl" if the model returns
        ``logits`` or the batches are pairs of inputs and integer labels, else "l2".
    forward : callable
        Calls the model with a batch.
    progress : callable, optional
        Called with a line of text for every layer.

    Returns
    -------
    Tensorization

    Raises
    ------
    ValueError
        If not exactly one budget is given; if it cannot be met, with the nearest that can; if the
        calibration set is empty or has values that are not finite, or the model has no layer.
    TypeError
        If the model is no torch module.

    Examples
    --------
    >>> import torch, ftnn
    >>> model = torch.nn.Sequential(
    ...     torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
    ... )
    >>> found = ftnn.tensorize(model, [torch.randn(256, 64)], params=0.2)
    >>> found.params <= 0.2 * found.dense_params
    True
    """
    if not isinstance(model, nn.Module):
        raise TypeError(f"model is {type(model).__name__}, expected a torch.nn.Module")
    names = _checked_formats(formats)
    check_difference(difference)
    new = copy.deepcopy(model).eval()
    total = sum(parameter.numel() for parameter in new.parameters())
    budget = _budget(total, params, ratio, max_error)
    if max_error is not None and calibration is None:
        raise ValueError("max_error needs calibration batches, on which outputs are compared")
    places = find_places(new, (skip,) if isinstance(skip, str) else skip)
    if all(place.reason for place in places):
        raise ValueError(
            "the model has no layer to tensorize, expected Linear, Conv1d, Conv2d, Conv3d or "
            f"Embedding{_reasons(places)}"
        )
    free = [place for place in places if not place.reason]
    probes = Probes(new, forward, difference)
    if calibration is not None:
        free = _reached(new, free, probes, calibration, forward)
    if max_error is not None and max_error >= 1 and probes.difference == "l2":
        raise ValueError(f"max_error is {max_error}, expected a relative error between 0 and 1")
    options = [_options(place, names, probes, progress) for place in free]
    rest = total - sum(place.weight.numel() for place in free)
    if budget is not None:
        chosen = _spend(options, budget, rest)
        done = _replace(model, places, free, options, chosen, probes)
    else:
        assert max_error is not None
        done = _least(model, places, free, options, max_error, probes)
    return done


# ---- arguments -----------------------------------------------------------------------------------


def _reached(
    model: nn.Module,
    places: list[Place],
    probes: Probes,
    calibration: Iterable[Any],
    forward: Callable[[nn.Module, Any], Any],
) -> list[Place]:
    """Gather moments, and return the layers that have any: of others nothing can be judged."""
    if not observe(model, places, probes.seen(calibration), forward):
        raise ValueError("the calibration set is empty, expected at least one batch")
    for place in places:
        if place.moments is None or not place.moments.rows:
            place.reason = "not reached by the calibration batches"
    found = [place for place in places if not place.reason]
    if not found:
        raise ValueError("the calibration batches reach no layer; they may have no samples")
    return found


def _checked_formats(formats: str | Sequence[str]) -> str | Sequence[str]:
    if formats == "auto":
        return formats
    known = {*LINEAR, *CONV, *EMBEDDING}
    given = (formats,) if isinstance(formats, str) else tuple(formats)
    for name in given:
        if name not in known:
            raise ValueError(f"formats has {name!r}, expected 'auto' or {', '.join(sorted(known))}")
    return given


def _budget(
    total: int, params: float | None, ratio: float | None, max_error: float | None
) -> int | None:
    """Return the largest number of parameters, or None if an error is given instead."""
    budgets = {"params": params, "ratio": ratio, "max_error": max_error}
    given = [name for name, value in budgets.items() if value is not None]
    if len(given) != 1:
        what = " and ".join(given) if given else "none of params, ratio and max_error"
        raise ValueError(f"{what} {'are' if len(given) > 1 else 'is'} given; give one of them")
    if max_error is not None:
        if not max_error > 0:
            raise ValueError(f"max_error is {max_error}, expected a number > 0")
        return None
    if ratio is not None:
        if not ratio > 1:
            raise ValueError(f"ratio is {ratio}, expected a number > 1: 10 leaves a tenth")
        return int(total / ratio)
    assert params is not None
    if not params > 0:
        raise ValueError(f"params is {params}, expected a fraction, such as 0.1, or a number")
    return int(total * params if params < 1 else params)


def _reasons(places: Sequence[Place]) -> str:
    reasons = sorted({place.reason for place in places})
    return f" that is not {', '.join(reasons)}" if reasons else ""


# ---- what every layer could be -------------------------------------------------------------------


@dataclass(eq=False)
class _Option:
    """A candidate for a layer, or None for the dense layer, and its size and error."""

    candidate: Candidate | None
    choice: Choice


def _options(
    place: Place,
    formats: str | Sequence[str],
    probes: Probes,
    progress: Callable[[str], None] | None,
) -> list[_Option]:
    """Fit a layer in all sizes; the outputs are compared for those that could be chosen."""
    found = list(candidates(place, formats_for(place, formats)))
    options = [_Option(None, Choice(place.weight.numel(), 0.0))]
    for format in dict.fromkeys(candidate.format for candidate in found):
        own = [candidate for candidate in found if candidate.format == format]
        sizes = [Choice(one.params, one.found.error**2) for one in own]
        for n in hull(sizes):
            error = sizes[n].error
            if probes.batches:
                error = probes.error_with(place, own[n].module(place))
            options.append(_Option(own[n], Choice(sizes[n].params, error)))
    if progress is not None:
        progress(f"{place.names[0]}: {len(found)} candidates")
    return options


# ---- the choice ----------------------------------------------------------------------------------


def _spend(options: list[list[_Option]], budget: int, rest: int) -> list[int]:
    layers = [[option.choice for option in own] for own in options]
    try:
        return spend(layers, budget - rest)
    except ValueError:
        least = rest + sum(min(choice.params for choice in own) for own in layers)
        raise ValueError(
            f"the budget is {budget:,} parameters, but the smallest that can be met is {least:,}, "
            f"{rest:,} of them in what is not tensorized; allow as many"
        ) from None


def _least(
    model: nn.Module,
    places: list[Place],
    free: list[Place],
    options: list[list[_Option]],
    max_error: float,
    probes: Probes,
) -> Tensorization:
    """Return the fewest parameters whose measured error is small enough, by bisection."""
    layers = [[option.choice for option in own] for own in options]
    low = sum(min(choice.params for choice in own) for own in layers)
    high = sum(place.weight.numel() for place in free)
    best: Tensorization | None = None
    for _ in range(8):
        middle = int((low * high) ** 0.5)
        found = _replace(model, places, free, options, spend(layers, middle), probes)
        if found.error <= max_error:
            best, high = found, middle
        else:
            low = middle
        if high <= 1.05 * low:
            break
    return best or _replace(model, places, free, options, [0] * len(free), probes)


def _replace(
    model: nn.Module,
    places: list[Place],
    free: list[Place],
    options: list[list[_Option]],
    chosen: list[int],
    probes: Probes,
) -> Tensorization:
    """Put what was chosen into a copy of the model."""
    new = copy.deepcopy(model)
    rows = {}
    for place, own, n in zip(free, options, chosen, strict=True):
        candidate, (_, error) = own[n].candidate, own[n].choice
        if candidate is None:
            rows[place.names] = _dense_row(place, "")
            continue
        candidate = candidate.polished()
        layer = candidate.module(place)
        put(new, place.names, layer)
        rows[place.names] = Row(
            place.names[0],
            type(place.layer).__name__,
            candidate.format,
            layer.ranks,
            candidate.params,
            place.weight.numel(),
            candidate.found.error,
            probes.told(error),
            _few(place),
        )
    for place in places:
        rows.setdefault(place.names, _dense_row(place, place.reason))
    for module in new.modules():
        if isinstance(module, TensorizedModule):
            module.train(model.training)
    error = float("nan")
    if probes.batches:
        error = probes.told(probes.error(copy.deepcopy(new).eval()))
    now, before = (sum(p.numel() for p in one.parameters()) for one in (new, model))
    table = tuple(rows[place.names] for place in places)
    return Tensorization(new, table, now, before, error, probes.difference)


def _few(place: Place) -> str:
    """Tell if there were fewer rows than inputs, of which correlations are only guessed."""
    moments = place.moments
    if moments is None or moments.diagonal or moments.rows >= moments.size:
        return ""
    return f"{moments.rows:,} calibration rows for {moments.size:,} inputs"


def _dense_row(place: Place, remark: str) -> Row:
    size = place.weight.numel()
    return Row(place.names[0], type(place.layer).__name__, "dense", (), size, size, remark=remark)
