"""Experiment: a data set, a model for it, and tuned options."""

import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ..training.options import flat, idle, replace_values, specs_of
from .options import ExperimentOptions

if TYPE_CHECKING:
    import numpy as np

    from ..layers.layer import Layer
    from ..training import Callback, Objective
    from .folder import Run
    from .splits import Data, NewSamples

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Experiment:
    """A data set, a model for it, and tuned options.

    Attributes
    ----------
    name : str
        Name on the command line: ``ftnn train NAME``.
    description : str
        One line.
    options : type
        Dataclass of options, a subclass of :class:`ExperimentOptions`.
    load : callable
        Maps options to :class:`Data`; applies ``limit``, if any, by :meth:`Data.limited`.
    build : callable
        Maps options and data to an encoder, fitted to the training inputs, and a model; the
        encoder is None where the inputs are states.
    tuned : path or mapping
        Tuned values that differ from the defaults of ``options``: a TOML file, or a mapping with
        the same keys, the names of the options. Its table ``quick`` holds further changes for a
        trial of less than a minute.
    samples : str
        Word for samples, in the plural.
    augment : callable, optional
        Maps training images (n, height, width) and a numpy Generator to images; used unless the
        options have ``augment`` set to False.
    augment_states : callable, optional
        Maps encoded inputs, cores (batch, left, phys, right), and a numpy Generator to cores,
        likewise.
    carry : callable, optional
        Maps the model named by ``start`` and the model built for this run to the model to train.
        Without it the arrays of both must have the same names and shapes.
    fit : callable, optional
        Called with options, data, the new model, and a function that shows a line of text; returns
        the model that training begins with where no other model is there to start with: one with
        weights that are fitted to the training samples without gradients.
    stages : callable, optional
        Maps options to the options of two or more runs, each of which starts with the model of the
        one before, or to None for a single run.
    objective : callable, optional
        Maps options to the objective of the training; by default that of the kind of targets.
    callbacks : callable, optional
        Maps options and data to further callbacks of the trainer.
    conclude : callable, optional
        Called at the end of a run with its folder, the options, the data, the model on NumPy and
        the evaluation of the test set; returns additional entries for ``summary.json`` and may draw
        figures into the folder.
    read : callable, optional
        Called with a :class:`ftnn.experiments.folder.Run`, the path of new data, and whether they
        have targets; returns :class:`NewSamples`, for ``ftnn evaluate --data`` and ``ftnn
        predict``.
    file : path, optional
        User's file that defines the experiment.

    Examples
    --------
    >>> from ftnn.experiments import get_experiment
    >>> digits = get_experiment("digits")
    >>> digits.tuned_options(quick=True).train.epochs
    4
    """

    name: str
    description: str
    options: type[ExperimentOptions]
    load: Callable[[Any], "Data"]
    build: "Callable[[Any, Data], tuple[Any, Layer]]"
    tuned: Path | Mapping[str, Any] = field(default_factory=dict)
    samples: str = "samples"
    augment: "Callable[[np.ndarray, np.random.Generator], np.ndarray] | None" = None
    augment_states: "Callable[[Any, np.random.Generator], Any] | None" = None
    carry: "Callable[[Layer, Layer], Layer] | None" = None
    fit: "Callable[[Any, Data, Layer, Callable[[str], None]], Layer] | None" = None
    stages: Callable[[Any], tuple[Any, ...] | None] | None = None
    objective: "Callable[[Any], Objective] | None" = None
    callbacks: "Callable[[Any, Data], Iterable[Callback]] | None" = None
    conclude: "Callable[[Path, Any, Data, Layer, Any], dict[str, Any]] | None" = None
    read: "Callable[[Run, str, bool], NewSamples] | None" = None
    file: Path | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.options, type) and issubclass(self.options, ExperimentOptions)):
            raise TypeError(
                f"options of experiment {self.name} is {self.options!r}, expected a subclass of "
                "ftnn.experiments.ExperimentOptions, a frozen dataclass"
            )
        specs_of(self.options)

    def tuned_options(self, quick: bool = False) -> Any:
        """Return the tuned options, or those of a quick trial."""
        if quick and "quick" not in read_values(self.tuned):
            raise ValueError(
                f"--quick: experiment {self.name} has no quick trial; leave it out, or add a "
                "table quick to its tuned values"
            )
        return resolve(self.options(), self.tuned, quick=quick)

    def check(self, options: Any) -> None:
        """Raise an error unless ``options`` belong to this experiment, and each has an effect."""
        if not isinstance(options, self.options):
            raise TypeError(
                f"options is a {type(options).__name__}, expected {self.options.__name__}, those "
                f"of experiment {self.name}"
            )
        given, tuned = flat(options), flat(self.tuned_options())
        for name, where in (self.options.unused | idle(options)).items():
            if given[name] != tuned[name]:
                raise ValueError(
                    f"{name} is {given[name]!r}, but experiment {self.name} does not use it "
                    f"{where}; leave it out"
                )
        if options.train.grow and self.stages is not None and self.stages(options):
            raise ValueError(
                f"grow is {options.train.grow!r}, but {self.name} trains in stages, each "
                "with a model of its own; leave it out, or train in one stage"
            )


def imported(reference: str, package: str | None = None) -> Callable[..., Any]:
    """Return a function that is imported when it is first called.

    Parameters
    ----------
    reference : str
        ``"module:function"``; a module that begins with a dot is relative to ``package``.
    package : str, optional

    Examples
    --------
    >>> imported("math:sqrt")(4.0)
    2.0
    """
    module, _, name = reference.partition(":")

    def call(*arguments: Any) -> Any:
        return getattr(import_module(module, package), name)(*arguments)

    call.__name__ = call.__qualname__ = name
    return call


def resolve(
    options: T,
    source: Path | str | Mapping[str, Any] | None = None,
    flags: Mapping[str, Any] | None = None,
    quick: bool = False,
) -> T:
    """Resolve the options of a run from defaults, then a TOML file, then flags.

    Parameters
    ----------
    options : dataclass of options
    source : path or mapping, optional
        TOML file with option names at its top level, and in its table ``quick`` the changes for
        ``quick``; or a mapping of the same form.
    flags : mapping, optional
        Options by name; None stands for options not given.
    quick : bool
        Whether to apply the table ``quick`` of the source.

    Returns
    -------
    dataclass of options

    Raises
    ------
    FileNotFoundError
        If the file does not exist.
    TypeError, ValueError
        For an unknown key, or an invalid type or value; the message names file and key.

    Examples
    --------
    >>> from ftnn.training import TrainConfig
    >>> resolve(TrainConfig(), {"epochs": 9, "lr": 0.1}, {"epochs": 3}).epochs
    3
    """
    if source is not None:
        where = "" if isinstance(source, Mapping) else f"{source}: "
        values = read_values(source)
        quick_values = values.pop("quick", {})
        if not isinstance(quick_values, dict):
            raise ValueError(f"{where}quick is {quick_values!r}, expected a table [quick]")
        options = with_values(options, values, where)
        quick_options = with_values(options, quick_values, f"{where}[quick] ")
        options = quick_options if quick else options
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    return with_values(options, given, "")


def read_values(source: Path | str | Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of a TOML file or a mapping, or raise an error that names the file."""
    if isinstance(source, Mapping):
        return dict(source)
    path = Path(source)
    if path.is_dir():
        raise IsADirectoryError(f"--config {source}: is a folder, expected a TOML file")
    if not path.is_file():
        raise FileNotFoundError(f"--config {source}: there is no such file")
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{source}: not a TOML file: {error}") from None
    except RecursionError:
        raise ValueError(f"{source}: not a TOML file of options: nested too deeply") from None


def with_values(options: T, values: Mapping[str, Any], where: str) -> T:
    """Return options with some values replaced; ``where`` names their source in errors."""
    try:
        return replace_values(options, values)
    except (TypeError, ValueError) as error:
        raise type(error)(f"{where}{error}") from None
