"""Search for the structure of a network: depth, bonds and dimensions, by validation data alone.

Trials are proposed and pruned by Optuna, and kept in a file of SQLite: a search goes on where it
ended or was killed. The test set is not read.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..layers.atomic import clear_write_errors
from ..training.options import Spec, flat, format_value, idle, replace_values, specs_of
from .experiment import Experiment
from .setup import objective_for

if TYPE_CHECKING:
    from optuna import Study, Trial

    from ..encoding import Encoder
    from ..layers.layer import Layer
    from ..training.score import Score
    from .splits import Data

STORAGE, RESULTS, FIGURE = "search.db", "search.json", "pareto.png"
"""Files of a search: the trials, a readable copy, and a picture."""

SIZES = ("depth", "products", "phys", "bond_dim", "max_bond", "readout_bond", "block_bond")
"""Options of the structure of networks, which a search varies where an experiment has them."""

TRIES = 50
"""Networks that are drawn for a trial, at most, until one has few enough parameters."""

WARMUP = 0.25
"""Part of the epochs before which no trial is pruned."""


@dataclass(frozen=True)
class Range:
    """Integers from low to high, both included.

    Examples
    --------
    >>> Range.read("2..16"), str(Range(3, 3))
    (Range(low=2, high=16), '3..3')
    """

    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.low}..{self.high}"

    @classmethod
    def read(cls, text: str) -> "Range":
        """Read ``low..high``."""
        low, dots, high = text.partition("..")
        if not (dots and low.isdecimal() and high.isdecimal() and int(low) <= int(high)):
            raise ValueError(f"range is {text!r}, expected LOW..HIGH, such as 2..16")
        return cls(int(low), int(high))


@dataclass(frozen=True)
class Row:
    """A trial of a search.

    Attributes
    ----------
    number : int
    values : dict of str to int
        Options that vary.
    params : int
        Parameters of the network.
    score : float or None
        The best on validation data; None if training failed.
    seconds : float
        Time of training.
    epochs : int
    pruned : bool
        Stopped early, as other trials were better by then.
    front : bool
        No other trial that ended has a better score with as few parameters.
    """

    number: int
    values: dict[str, int]
    params: int
    score: float | None
    seconds: float
    epochs: int
    pruned: bool
    front: bool = False


def ranges(experiment: Experiment, options: Any, given: Mapping[str, str] | None = None) -> dict:
    """Return what varies: what is given, or sizes from half to twice those of the options.

    Parameters
    ----------
    experiment : Experiment
    options : dataclass of options
    given : mapping of str to str, optional
        Ranges, ``"2..16"``, by option.

    Returns
    -------
    dict of str to Range

    Raises
    ------
    ValueError
        For an option that the experiment has not, or does not use, or that is no integer, or values
        that it cannot have.

    Examples
    --------
    >>> from ftnn.experiments import get_experiment
    >>> digits = get_experiment("digits")
    >>> str(ranges(digits, digits.tuned_options())["phys"])
    '3..12'
    """
    specs, values, off = specs_of(type(options)), flat(options), idle(options)
    if not given:
        names = [n for n in SIZES if n in specs and n not in off and values[n] is not None]
        if not names:
            raise ValueError(
                f"experiment {experiment.name} has none of the options {', '.join(SIZES)}; name "
                "those that vary by --vary NAME=LOW..HIGH"
            )
        return {name: _around(specs[name], values[name]) for name in names}
    found = {}
    for name, text in given.items():
        if name not in specs or specs[name].kind is not int:
            numbers = ", ".join(n for n, spec in specs.items() if spec.kind is int)
            raise ValueError(f"--vary has {name!r}, expected an integer option: {numbers}")
        try:
            found[name] = Range.read(text)
        except ValueError as error:
            raise ValueError(f"--vary {name}: {error}") from None
        for value in (found[name].low, found[name].high):
            specs[name].check(value)
    return found


def _around(spec: Spec, value: int) -> Range:
    """Return sizes near a tuned one; of a depth, from none to two more."""
    least = int(spec.least or 0)
    if spec.name in ("depth", "products"):
        return Range(max(least, value - 1), value + 2)
    return Range(max(least, value // 2, 1), 2 * value)


class Search:
    """A search in a folder; made anew, or gone on with.

    Parameters
    ----------
    experiment : Experiment
    options : dataclass of options
        All that does not vary.
    varied : mapping of str to Range
    folder : path
        Locked by the caller.
    params : int, optional
        Most parameters of a network.

    Raises
    ------
    ImportError
        If Optuna is not installed.
    ValueError
        If the folder has a search for something else, or training has several stages.
    """

    def __init__(
        self,
        experiment: Experiment,
        options: Any,
        varied: Mapping[str, Range],
        folder: Path,
        params: int | None = None,
    ):
        if experiment.stages is not None and experiment.stages(options):
            raise ValueError(
                f"{experiment.name} trains in stages with these options; search in one stage, such "
                "as with --set fine_epochs=0"
            )
        self.experiment, self.options, self.folder = experiment, options, Path(folder)
        self.varied, self.params = dict(varied), params
        self._stopped = False
        self._loaded: Data | None = None
        self.study = self._opened()

    def _opened(self) -> "Study":
        optuna = _optuna()
        about = {
            "experiment": self.experiment.name,
            "options": json.dumps(flat(self.options), sort_keys=True),
            "varied": ", ".join(f"{name}={own}" for name, own in self.varied.items()),
            "params": self.params,
        }
        study = optuna.create_study(
            storage=f"sqlite:///{self.folder / STORAGE}",
            study_name="ftnn",
            load_if_exists=True,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(
                n_startup_trials=4, n_warmup_steps=round(WARMUP * self.options.train.epochs)
            ),
        )
        seed = self.options.train.seed + len(study.get_trials(deepcopy=False))
        study.sampler = optuna.samplers.TPESampler(seed=seed)  # draws others than before
        before = study.user_attrs.get("about")
        if before is None:
            study.set_user_attr("about", about)
        elif before != about:
            name = next(key for key in about if before.get(key) != about[key])
            raise ValueError(
                f"{self.folder} has a search with {name} {before.get(name)!r:.200} (now "
                f"{about[name]!r:.200}); go on with the same, or choose another folder"
            )
        for trial in study.get_trials(states=(optuna.trial.TrialState.RUNNING,)):  # was killed
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
            study.enqueue_trial(trial.params)
        return study

    def run(
        self, trials: int, minutes: float | None = None, tell: Callable[[str], None] = print
    ) -> list[Row]:
        """Train networks until there are so many trials, or the time is over.

        Parameters
        ----------
        trials : int
            In all, those of an earlier part of the search included.
        minutes : float, optional
            The trial that trains then is stopped, and counts as pruned.
        tell : callable
            Called with a line for every trial.

        Returns
        -------
        list of Row
        """
        until = None if minutes is None else time.monotonic() + 60 * minutes
        try:
            while len(self.rows()) < trials and not self._stopped:
                if until is not None and time.monotonic() >= until:
                    tell(f"{minutes:g} minutes are over")
                    break
                trial = self._drawn()
                if trial is None:
                    most = "" if self.params is None else f" of at most {self.params:,} parameters"
                    tell(f"no other network{most} in {TRIES} draws")
                    break
                self._train(trial, until)
                if not self._stopped:
                    tell(self._line(self.rows()[-1], trials))
        finally:
            self.write()
        return self.rows()

    @cached_property
    def score(self) -> "Score":
        """What is to be good on validation data."""
        own = self.experiment.objective
        if own is not None:
            return own(self.options).score
        return self._data(self.options).score

    @property
    def stopped(self) -> bool:
        """Whether a signal stopped the search."""
        return self._stopped

    def _drawn(self) -> "Trial | None":
        """Draw a trial whose network is small enough; None if none is found."""
        state = _optuna().trial.TrialState
        for _ in range(TRIES):
            trial = self.study.ask()
            for name, own in self.varied.items():
                trial.suggest_int(name, own.low, own.high, log=own.low > 0 and own.high > 8)
            values = self._effective(trial.params)
            known = [row for row in self.rows() if row.values == values]
            limit = float("inf") if self.params is None else self.params
            if not known and self._built(values)[3].num_params() <= limit:
                trial.set_user_attr("values", values)
                return trial
            trial.set_user_attr("left out", True)
            self.study.tell(trial, state=state.PRUNED)
        return None

    def _effective(self, values: Mapping[str, int]) -> dict[str, int]:
        """Leave out what has no effect beside the others."""
        off = idle(replace_values(self.options, values))
        return {name: value for name, value in values.items() if name not in off}

    def _data(self, options: Any) -> "Data":
        """Load the data, once where only sizes of the network vary."""
        if not self.varied.keys() <= set(SIZES):
            return self.experiment.load(options)
        if self._loaded is None:
            self._loaded = self.experiment.load(options)
        return self._loaded

    def _built(self, values: Mapping[str, int]) -> "tuple[Any, Data, Encoder | None, Layer]":
        """Return options, data, encoder and model of a trial."""
        options = replace_values(self.options, values)
        self.experiment.check(options)
        data = self._data(options)
        return options, data, *self.experiment.build(options, data)

    def _train(self, trial: "Trial", until: float | None) -> None:
        """Train a network, and tell its score; a signal puts the trial back."""
        from ..training import DivergenceError, Trainer

        state = _optuna().trial.TrialState
        experiment = self.experiment
        stage, data, encoder, model = self._built(trial.user_attrs["values"])
        own = experiment.objective
        objective = objective_for(data.score) if own is None else own(stage)
        report = _reporter(trial, objective.score, until)
        further = () if experiment.callbacks is None else experiment.callbacks(stage, data)
        if experiment.fit is not None:
            model = experiment.fit(stage, data, model, lambda _: None)
        callbacks = (*further, report)
        trainer = Trainer(model, encoder, stage.train, None, True, objective, callbacks)
        trial.set_user_attr("params", model.num_params())
        begun = time.perf_counter()
        augmented = getattr(stage, "augment", True)
        try:
            fitted = trainer.fit(
                data,
                augment=experiment.augment if augmented else None,
                augment_states=experiment.augment_states if augmented else None,
            )
        except DivergenceError:
            trial.set_user_attr("seconds", time.perf_counter() - begun)
            trial.set_user_attr("failed", True)
            self.study.tell(trial, state=state.PRUNED)
            return
        if fitted.outcome == "stopped":
            self._stopped = True
            self.study.tell(trial, state=state.FAIL)
            self.study.enqueue_trial(trial.params)
            return
        trial.set_user_attr("seconds", fitted.train_seconds)
        trial.set_user_attr("epochs", fitted.epochs)
        trial.set_user_attr("score", fitted.val_score)
        if report.pruned:
            self.study.tell(trial, state=state.PRUNED)
        else:
            self.study.tell(trial, _signed(objective.score, fitted.val_score))

    def rows(self) -> list[Row]:
        """Return the trials that were trained, in their order."""
        found = []
        state = _optuna().trial.TrialState
        for trial in self.study.get_trials(deepcopy=False):
            about = trial.user_attrs
            if trial.state not in (state.COMPLETE, state.PRUNED) or about.get("left out"):
                continue
            found.append(
                Row(
                    trial.number, about["values"], about["params"], about.get("score"),
                    about["seconds"], about.get("epochs", 0), trial.state == state.PRUNED,
                )
            )  # fmt: skip
        front = _front(found, 1 if self.score.higher_is_better else -1)
        return [replace(row, front=row.number in front) for row in found]

    def _line(self, row: Row, trials: int) -> str:
        """Tell of a trial."""
        values = " ".join(f"{name}={value}" for name, value in row.values.items())
        result = "diverged" if row.score is None else format(row.score, self.score.spec)
        done = f", pruned after {row.epochs} epochs" if row.pruned and row.epochs else ""
        count = len(self.rows())
        return (
            f"{count}/{trials}  {result}  {row.params:,} parameters  {row.seconds:.0f} s  {values}"
            f"{done}"
        )

    def command(self, row: Row) -> str:
        """Return the command that trains a network of the search, and reads the test set."""
        tuned = flat(self.experiment.tuned_options())
        now = flat(replace_values(self.options, row.values))
        flags = [_flag(name, value) for name, value in now.items() if value != tuned[name]]
        where = self.experiment.file or self.experiment.name
        return " ".join(["ftnn train", str(where), *flags])

    def write(self) -> None:
        """Write a readable copy of the trials, and the picture."""
        from ..plotting.search import plot_search
        from ..training.files import json_safe, write_json

        rows = self.rows()
        content = {"rows": [vars(row) for row in rows], **self.study.user_attrs["about"]}
        with clear_write_errors(self.folder):
            write_json(self.folder / RESULTS, json_safe(content))
            if any(row.score is not None for row in rows):
                plot_search(rows, self.score, self.folder / FIGURE, self.params)


def best_first(rows: Sequence[Row], score: "Score") -> list[Row]:
    """Return the trials, the best first, those that failed last."""
    sign = 1 if score.higher_is_better else -1
    return sorted(rows, key=lambda row: float("inf") if row.score is None else -sign * row.score)


def _front(rows: Sequence[Row], sign: int) -> set[int]:
    """Return the numbers of trials that none beats with as few parameters."""
    ended = [row for row in rows if row.score is not None and not row.pruned]
    found, best = set(), float("-inf")
    for row in sorted(ended, key=lambda row: (row.params, -sign * (row.score or 0.0))):
        assert row.score is not None
        if sign * row.score > best:
            best = sign * row.score
            found.add(row.number)
    return found


def _signed(score: "Score", value: float | None) -> float:
    """Return what is to be as large as possible."""
    assert value is not None
    return value if score.higher_is_better else -value


def _flag(name: str, value: Any) -> str:
    """Return an option as it is typed."""
    word = name.replace("_", "-")
    if isinstance(value, bool):
        return f"--{word}" if value else f"--no-{word}"
    return f"--{word} {0 if value is None else format_value(value)}"


def _reporter(trial: "Trial", score: "Score", until: float | None) -> Any:
    """Return a callback that tells the score of every epoch, and ends what is worse than others."""
    from ..training import Callback

    class Report(Callback):
        pruned = False
        best: float | None = None

        def epoch_end(self, fit: Any, record: Mapping[str, Any]) -> None:
            """Report; the best so far, as the best epoch counts."""
            value = record[f"val_{score.name}"]
            if value is not None:
                signed = _signed(score, value)
                self.best = signed if self.best is None else max(self.best, signed)
                trial.report(self.best, record["epoch"])
            late = until is not None and time.monotonic() >= until
            if record["epoch"] < fit.config.epochs and (late or trial.should_prune()):
                self.pruned = True
                fit.finish()

    return Report()


def _optuna() -> Any:
    """Import Optuna, or tell how to get it."""
    try:
        import optuna
    except ImportError:
        raise ImportError("a search needs Optuna; `pip install 'ftnn[search]'`") from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
