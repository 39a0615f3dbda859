"""Setup: everything that training needs, checked and ready."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..arrays.backend import check_backend
from ..encoding import Encoder
from ..layers.files import load
from ..layers.layer import Layer
from ..training.score import Score
from .experiment import Experiment
from .folder import MODEL, START
from .splits import Data

if TYPE_CHECKING:
    from ..training import Objective


@dataclass(frozen=True, eq=False)
class Setup:
    """Everything that training needs, checked and ready.

    ``options`` are those of the whole run; ``stage``, the data and the model belong to one stage of
    it, which may have ``started`` with the weights of another run.
    """

    experiment: Experiment
    options: Any
    stage: Any
    data: Data
    encoder: Encoder | None
    model: Layer
    started: bool


def prepare(experiment: Experiment, options: Any, run_dir: Path | None = None) -> Setup:
    """Check options, load the data, build encoder and model.

    Parameters
    ----------
    experiment : Experiment
    options : dataclass of options
    run_dir : Path, optional
        Run to resume: its initial weights are its own copy, whatever happened to the other run.

    Raises
    ------
    ValueError, TypeError, FileNotFoundError
        If an option is invalid, torch is missing, or the data cannot be found.
    """
    check_torch()
    from ..training.optimizer import resolve_device

    resolve_device(options.train.device)
    experiment.check(options)
    data = experiment.load(options)
    encoder, model = experiment.build(options, data)
    if options.start is not None:
        start = options.start if run_dir is None else run_dir / START
        model = start_with(experiment, start, trained_model(start), model)
    return Setup(experiment, options, options, data, encoder, model, options.start is not None)


def trained_model(start: str | Path) -> Layer:
    """Load the initial model from a run folder or a model file."""
    path = Path(start)
    try:
        return load(path / MODEL if path.is_dir() else path)
    except FileNotFoundError:
        raise FileNotFoundError(f"start is {str(start)!r}, but there is no model") from None
    except ValueError as error:
        raise ValueError(f"start is {str(start)!r}: {error}") from None


def start_with(experiment: Experiment, start: str | Path, trained: Layer, built: Layer) -> Layer:
    """Return the model to train: the new model, with the weights of a trained one.

    Raises
    ------
    ValueError
        If the network of the trained one does not match the options.
    """
    try:
        if experiment.carry is not None:
            return experiment.carry(trained, built)
        arrays = trained.named_arrays()
        missing = built.named_arrays().keys() - arrays.keys()
        if missing:
            raise ValueError(f"it has no array {min(missing)!r}")
        built.set_arrays(arrays)
    except ValueError as error:
        raise ValueError(
            f"start is {str(start)!r}, whose network does not fit: {error}; "
            "give the options it was trained with"
        ) from None
    return built


def check_torch() -> None:
    """Raise ``ValueError`` if torch, which training needs, is not installed."""
    check_backend("torch")


def objective_for(score: Score) -> "Objective":
    """Return the objective of a score: classification, or regression of numbers or states."""
    from ..training import Classification, Regression, StateRegression

    objectives = (Classification(), Regression(), StateRegression())
    return next(objective for objective in objectives if objective.score == score)
