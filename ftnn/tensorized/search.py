"""What every layer of a model could become, and the choice among it for a budget."""

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from .budget import Choice, spend, useful
from .candidates import Candidate, candidates, formats_for, least_size, sized_candidate
from .module import TensorizedModule
from .places import Place, put_layer
from .probes import Probes
from .tensorization import Row, Tensorization

STEPS = (-0.75, -0.5, -0.25, 0.25, 0.5, 0.75)
"""Powers of 2 by which sizes differ from those that were chosen first, in a second round."""

LARGEST = 2
"""Layers of the largest errors that are offered what is left of a budget."""


@dataclass(eq=False)
class Option:
    """A candidate for a layer, or None for the dense layer, and its size and error."""

    candidate: Candidate | None
    choice: Choice


class Search:
    """Candidates for all layers of a model, with the error of the outputs that each makes.

    Parameters
    ----------
    model : Module
        Copied for every result.
    places : list of Place
        All layers; those without a reason are free to change.
    formats : "auto" or sequence of str
    probes : Probes
    progress : callable, optional
    """

    def __init__(
        self,
        model: nn.Module,
        places: list[Place],
        formats: str | Sequence[str],
        probes: Probes,
        progress: Callable[[str], None] | None,
    ):
        self.model, self.places, self.probes = model, places, probes
        self.progress = progress
        self.free = [place for place in places if not place.reason]
        self.total = sum(parameter.numel() for parameter in model.parameters())
        self.rest = self.total - sum(place.weight.numel() for place in self.free)
        self.options = [self._options(place, formats_for(place, formats)) for place in self.free]
        self._tried: dict[tuple[int, str, int], Option | None] = {}

    def within(self, params: int) -> Tensorization:
        """Return the model of the least error found with at most so many parameters."""
        return self._replaced(self._refined(params))

    def accurate(self, max_error: float) -> Tensorization:
        """Return the fewest parameters found whose measured error is small enough."""
        low = sum(min(option.choice.params for option in own) for own in self.options)
        low, high = low + self.rest, self.total
        best: Tensorization | None = None
        for _ in range(8):
            middle = int((low * high) ** 0.5)
            found = self._replaced(self._refined(middle))
            if found.error <= max_error:
                best, high = found, middle
            else:
                low = middle
            if high <= 1.05 * low:
                break
        return best or self._replaced([own[0] for own in self.options])

    # ---- candidates ------------------------------------------------------------------------------

    def _options(self, place: Place, formats: Sequence[str]) -> list[Option]:
        """Fit a layer in all sizes; the outputs are compared for all that gain anything."""
        found = list(candidates(place, formats))
        options = [Option(None, Choice(place.weight.numel(), 0.0))]
        for format in dict.fromkeys(candidate.format for candidate in found):
            own = [candidate for candidate in found if candidate.format == format]
            for n in useful([Choice(one.params, one.found.error**2) for one in own]):
                options.append(self._probed(place, own[n]))
        if self.progress is not None:
            self.progress(f"{place.names[0]}: {len(found)} candidates")
        return options

    def _probed(self, place: Place, candidate: Candidate) -> Option:
        """Compare the outputs of the model with a candidate in it."""
        error = candidate.found.error**2
        if self.probes.batches:
            error = self.probes.error_with(place, candidate.module(place))
        return Option(candidate, Choice(candidate.params, error))

    def _other(self, n: int, like: Candidate, params: int) -> Option | None:
        """Return a candidate of another size, probed; it is kept for other budgets."""
        place, key = self.free[n], (n, like.format, params)
        if not least_size(like.target) <= params < place.weight.numel():
            return None
        if key not in self._tried:
            found = sized_candidate(like.format, like.target, params)
            self._tried[key] = None if found is None else self._probed(place, found)
        return self._tried[key]

    # ---- the choice ------------------------------------------------------------------------------

    def _refined(self, params: int) -> list[Option]:
        """Choose for a budget; then among sizes near to the choice, too, and spend what is left."""
        options = [list(own) for own in self.options]
        for n, option in enumerate(self._spend(options, params)):
            like = option.candidate or self._nearest_to_dense(n)
            if like is not None:
                sizes = (int(option.choice.params * 2**step) for step in STEPS)
                options[n] += filter(None, [self._other(n, like, size) for size in sizes])
        chosen = self._spend(options, params)
        left = params - self.rest - sum(option.choice.params for option in chosen)
        worst = sorted(range(len(chosen)), key=lambda n: -chosen[n].choice.error)
        for n in worst[:LARGEST]:
            like = chosen[n].candidate
            if like is not None:
                options[n] += filter(None, [self._other(n, like, like.params + left)])
        return self._spend(options, params)

    def _nearest_to_dense(self, n: int) -> Candidate | None:
        """Return the candidate of a layer with the least error."""
        found = [option for option in self.options[n] if option.candidate is not None]
        best = min(found, key=lambda option: option.choice.error, default=None)
        return None if best is None else best.candidate

    def _spend(self, options: list[list[Option]], params: int) -> list[Option]:
        """Return the option of every layer that is best within a budget."""
        layers = [[option.choice for option in own] for own in options]
        try:
            chosen = spend(layers, params - self.rest)
        except ValueError:
            least = self.rest + sum(min(choice.params for choice in own) for own in layers)
            raise ValueError(
                f"the budget is {params:,} parameters, but the smallest that can be met is "
                f"{least:,}, {self.rest:,} of them in what is not tensorized; allow as many"
            ) from None
        return [own[n] for own, n in zip(options, chosen, strict=True)]

    # ---- the result ------------------------------------------------------------------------------

    def _replaced(self, chosen: list[Option]) -> Tensorization:
        """Put what was chosen into a copy of the model."""
        new, probes = copy.deepcopy(self.model), self.probes
        rows = {}
        for place, option in zip(self.free, chosen, strict=True):
            candidate, (_, error) = option.candidate, option.choice
            if candidate is None:
                continue
            candidate = candidate.polished()
            layer = candidate.module(place)
            put_layer(new, place, layer)
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
        table = tuple(rows.get(place.names) or _dense_row(place) for place in self.places)
        for module in new.modules():
            if isinstance(module, TensorizedModule):
                module.train(self.model.training)
        error = float("nan")
        if probes.batches:
            error = probes.told(probes.error(copy.deepcopy(new).eval()))
        now = sum(parameter.numel() for parameter in new.parameters())
        return Tensorization(new, table, now, self.total, error, probes.difference)


def _few(place: Place) -> str:
    """Tell if there were fewer rows than inputs, of which correlations are only guessed."""
    moments = place.moments
    if moments is None or moments.diagonal or moments.rows >= moments.size:
        return ""
    return f"{moments.rows:,} calibration rows for {moments.size:,} inputs"


def _dense_row(place: Place) -> Row:
    """Return the row of a layer that stays."""
    size = place.weight.numel()
    kind = type(place.layer).__name__
    return Row(place.names[0], kind, "dense", (), size, size, remark=place.reason)
