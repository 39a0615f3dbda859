"""Samples that take long to compute: computed once, in several processes, and kept in files."""

import os
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

import numpy as np

from ..layers.containers import read_tensors, write_tensors

PIECE = 32
"""Samples per file; an interrupted computation continues after the last complete file."""

_JOBS_WORTH_A_PROCESS = 16

Job = tuple[float, ...]
Arrays = dict[str, np.ndarray]


def cache_folder() -> Path:
    """Return the folder of the user's cache, for samples of which no option names a folder."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "ftnn"


@dataclass(frozen=True)
class Cache:
    """A set of samples in the files of a folder.

    Attributes
    ----------
    folder : Path
        Created if it does not exist.
    stem : str
        First part of the names of the files; names everything the samples depend on but the jobs.
    title : str
        Text beside the progress bar.
    noun : str
        Word for samples in messages, in the plural.
    key : str
        Name of the array in the files that holds the jobs.
    show : bool
        Whether to show a progress bar.
    """

    folder: Path
    stem: str
    title: str
    noun: str = "samples"
    key: str = "points"
    show: bool = True

    def arrays(self, compute: Callable[[Job], Arrays], jobs: Sequence[Job]) -> Arrays:
        """Compute a sample for every job, or read those that are kept in files.

        Samples that are computed are kept; if a file cannot be written, a warning says so, and the
        samples are returned all the same.

        Parameters
        ----------
        compute : callable
            Maps a job to arrays by name. Can be pickled: a function of a module, or a
            ``functools.partial`` of one.
        jobs : sequence of tuple of float

        Returns
        -------
        dict of str to array (n, ...)
            One row for every job. Samples of different shapes are padded with zeros.

        Raises
        ------
        ValueError
            If a file is damaged, or holds other samples, or the folder cannot be created; the
            message names it.
        """
        pieces = [jobs[start : start + PIECE] for start in range(0, len(jobs), PIECE)]
        paths = [self.folder / f"{self.stem}-{n:03d}.safetensors" for n in range(len(pieces))]
        kept = {n: self._read(paths[n], pieces[n]) for n in range(len(pieces)) if paths[n].exists()}
        missing = [n for n in range(len(pieces)) if n not in kept]
        if missing:
            _make_folder(self.folder)
            todo = [(pieces[n], paths[n]) for n in missing]
            kept |= zip(missing, self._make(compute, todo), strict=True)
        parts = [kept[n] for n in range(len(pieces))]
        names = [name for name in parts[0] if name != self.key]
        return {name: concatenate([part[name] for part in parts]) for name in names}

    def _make(
        self, compute: Callable[[Job], Arrays], pieces: Sequence[tuple[Sequence[Job], Path]]
    ) -> list[Arrays]:
        """Compute the samples of every piece, and write its file as soon as it is complete."""
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        todo = [job for jobs, _ in pieces for job in jobs]
        columns = (
            TextColumn(self.title),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeRemainingColumn(compact=True),
        )
        console = Console(stderr=True)
        result, can_write = [], True
        with (
            Progress(*columns, console=console, disable=not self.show) as bar,
            _mapped(compute, todo) as results,
        ):
            task = bar.add_task("", total=len(todo))
            for jobs, path in pieces:
                made = []
                for _ in jobs:
                    made.append({name: array[None] for name, array in next(results).items()})
                    bar.advance(task)
                arrays = {name: concatenate([part[name] for part in made]) for name in made[0]}
                arrays[self.key] = np.array(jobs)
                can_write = can_write and self._keep(path, arrays)
                result.append(arrays)
        return result

    def _keep(self, path: Path, arrays: Arrays) -> bool:
        """Write a file, or warn and return False."""
        try:
            write_tensors(path, arrays, {})
        except OSError as error:
            warnings.warn(
                f"{self.noun} are not kept for the next time, choose a folder with --data: {error}",
                stacklevel=5,
            )
            return False
        return True

    def _read(self, path: Path, jobs: Sequence[Job]) -> Arrays:
        try:
            arrays, _ = read_tensors(path)
        except ValueError as error:
            raise ValueError(
                f"{path}: damaged; remove it, and it is made again ({error})"
            ) from None
        if self.key not in arrays or not np.array_equal(arrays[self.key], np.array(jobs)):
            raise ValueError(f"{path}: holds the {self.noun} of other {self.key}; remove it")
        return arrays


def concatenate(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Concatenate arrays along the first axis; the other axes are padded with zeros.

    Examples
    --------
    >>> concatenate([np.ones((1, 2)), np.ones((2, 1))])
    array([[1., 1.],
           [1., 0.],
           [1., 0.]])
    """
    sizes = np.max([array.shape[1:] for array in arrays], axis=0).astype(int)
    out = np.zeros((sum(map(len, arrays)), *sizes), arrays[0].dtype)
    row = 0
    for array in arrays:
        out[(slice(row, row + len(array)), *map(slice, array.shape[1:]))] = array
        row += len(array)
    return out


def _make_folder(folder: Path) -> None:
    """Make the folder; where it cannot be, writing its files warns."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, FileNotFoundError, NotADirectoryError) as error:
        raise ValueError(f"--data {folder}: cannot be created ({error}); choose another") from None
    except OSError:
        pass


def end_with_parent() -> None:
    """End this process when the one that started it has ended, killed or not.

    Workers of a pool would wait for jobs for good: each holds the other end of the queue open.
    """
    parent = parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _mapped(function: Callable[[Job], Arrays], jobs: Sequence[Job]) -> Iterator[Iterator[Arrays]]:
    """Map jobs over as many processes as there are CPUs; results come in order."""
    workers = min(len(os.sched_getaffinity(0)), len(jobs) // _JOBS_WORTH_A_PROCESS)
    if workers < 2:
        yield map(function, jobs)
        return
    pool = ProcessPoolExecutor(workers, get_context("spawn"), end_with_parent)
    try:
        yield pool.map(function, jobs)
    finally:  # on Ctrl-C what has not begun is not waited for
        pool.shutdown(cancel_futures=True)
