"""Run folder of a fit: locked while it trains, and empty when a new run begins."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from ..layers.atomic import clear_write_errors
from .checkpoint import has_checkpoint, remove_checkpoint
from .fit import MODEL_NAME, Fit
from .lock import locked_folder
from .metrics import METRICS_NAME, rewrite_metrics
from .world import World

SUMMARY_NAME = "summary.json"


@contextmanager
def locked_run(folder: Path | None, world: World, resume: bool) -> Iterator[None]:
    """Lock a run folder, if there is one; it is created for a new run."""

    def acquire(stack: ExitStack) -> None:
        if folder is None:
            return
        if not resume:
            with clear_write_errors(folder):
                folder.mkdir(parents=True, exist_ok=True)
        if folder.is_dir():
            stack.enter_context(locked_folder(folder))

    with ExitStack() as stack:
        world.from_leader(lambda: acquire(stack))
        yield


def begin(fit: Fit, overwrite: bool) -> None:
    """Start a new run in a folder without one, or discard an earlier run.

    Raises
    ------
    ValueError
        If the folder holds a run that is not to be overwritten.
    """
    folder = fit.folder
    if folder is None:
        return
    model_path = folder / MODEL_NAME
    metrics_path = folder / METRICS_NAME
    used = has_checkpoint(folder) or model_path.exists() or metrics_path.exists()
    if used and not overwrite:
        raise ValueError(
            f"run_dir {folder} holds an earlier run; resume it (resume=True), choose "
            "another folder, or discard it (overwrite=True)"
        )
    remove_checkpoint(folder)
    rewrite_metrics(folder, [])
    model_path.unlink(missing_ok=True)
    (folder / SUMMARY_NAME).unlink(missing_ok=True)
    fit.checkpoint()
