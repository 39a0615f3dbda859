"""Resuming: a fit continues from the checkpoint in its folder."""

import json
from dataclasses import asdict

import torch

from ..encoding import Encoder
from ..layers.files import load, load_encoder
from .callbacks import load_states
from .checkpoint import JSON_NAME, REMEDY, load_checkpoint, remove_leftovers
from .fit import MODEL_NAME, Fit
from .metrics import read_metrics, rewrite_metrics
from .module import TorchModule
from .progress import Progress, Sums
from .same_run import check_same
from .weights import Kept, check_arrays


def restore(fit: Fit) -> None:
    """Restore the checkpoint in the folder; metrics after it are dropped.

    Raises
    ------
    ValueError
        If it is missing, damaged, or belongs to another model, configuration or data set;
        nothing on disk is changed in that case.
    """
    if fit.folder is None:
        raise ValueError("resume is True, but there is no run_dir to resume from; give one")
    folder, world = fit.folder, fit.world
    path = folder / JSON_NAME
    content = world.from_leader(lambda: load_checkpoint(folder))
    try:
        check_same(content["config"], asdict(fit.config))
        if content["data"] != fit.describe_data():
            raise ValueError(
                "it was trained on other samples, or with another augmentation; resume with the "
                "same, or train in a new folder"
            )
        training = dict(content["training"])
        progress = Progress(**training | {"sums": Sums(**training["sums"])})
        lines = content["metrics_lines"]
        history = world.from_leader(lambda: read_metrics(folder, lines))
        load_states(fit.callbacks, fit, content["callbacks"])
        fit.updater.check_state(content["update"])
        any_kept = progress.best_epoch > 0 or progress.best_score is not None
        kept = _load_kept(fit, progress.replacements > 0) if any_kept else None
        fit.updater.load_state(content["update"])
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} is incomplete ({error!r}); {REMEDY}") from None
    except FileNotFoundError as error:
        raise ValueError(f"cannot resume from {path}: {error}; {REMEDY}") from None
    except ValueError as error:
        raise ValueError(f"cannot resume from {path}: {error}") from None
    if world.leads:
        rewrite_metrics(folder, history)
        remove_leftovers(folder)
    fit.progress, fit.history, fit.kept = progress, history, kept


def _load_kept(fit: Fit, replaced: bool) -> Kept:
    """Load the kept weights; those of a model that was replaced come with their model."""
    assert fit.folder is not None
    path = fit.folder / MODEL_NAME
    tensors = fit.world.from_leader(lambda: load(path).named_arrays())
    arrays = {name: torch.from_numpy(array) for name, array in tensors.items()}
    try:
        check_arrays(fit.module, arrays)
    except ValueError as error:
        if not replaced:
            raise ValueError(f"{path} is that of another model: {error}; {REMEDY}") from None
        module = TorchModule(load(path), fit.config.dtype, fit.device, fit.config.recompute)
        return Kept.copy(module, module)
    if fit.world.from_leader(lambda: _described(load_encoder(path))) != _described(fit.encoder):
        raise ValueError(f"{path} does not hold the encoder of this run; {REMEDY}")
    return Kept(fit.module, arrays)


def _described(encoder: Encoder | None) -> str:
    """Describe an encoder as text: its class and the arguments of its constructor."""
    return "" if encoder is None else f"{type(encoder).__name__} {json.dumps(encoder.config())}"
