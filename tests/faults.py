"""A disk whose n-th operation fails, or at whose n-th operation the process is killed."""

import builtins
import errno
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

FAULTS = ("ENOSPC", "EIO", "kill")
"""A disk that is full from the operation on; one operation that fails; the end of the process."""

_OF_PATHS = ("mkdir", "rename", "replace", "rmdir", "truncate", "unlink", "remove")
_OF_NUMBERS = ("write", "fsync", "ftruncate")
_FREEING = ("unlink", "remove", "rmdir", "ftruncate", "truncate")
"""Operations that a full disk allows."""


class Killed(BaseException):
    """The process ended here: nothing that it does afterwards reaches the disk."""


def killed() -> None:
    """Pretend that the process ended."""
    raise Killed


class Disk:
    """A context in which operations that change files below a folder are counted.

    Those of Python are counted, which are all that ftnn makes: ``os.open`` and ``open`` for
    writing, ``os.write``, ``os.fsync``, ``os.replace`` and the like. Half of what is to be written
    is written when writing fails, or when the process is killed at it.

    Parameters
    ----------
    home : path
        Operations elsewhere are let through.
    at : int
        Number of the operation at which it happens, from 1; 0 for never.
    fault : str
        One of :data:`FAULTS`.
    kill : callable
        Called where the process is to be killed.
    told : callable, optional
        Called with the number and the name of every operation.
    """

    def __init__(
        self,
        home: Path,
        at: int = 0,
        fault: str = "EIO",
        kill: Callable[[], None] = killed,
        told: Callable[[int, str], Any] = lambda number, name: None,
    ):
        self.home, self.at, self.fault = str(Path(home).resolve()), at, fault
        self.kill, self.told = kill, told
        self.count, self.numbers = 0, set()
        self.plain = {name: getattr(os, name) for name in ("open", *_OF_PATHS, *_OF_NUMBERS)}
        self.plain_open = builtins.open

    def __enter__(self) -> "Disk":
        for name in _OF_PATHS:
            setattr(os, name, self._of_path(name))
        for name in _OF_NUMBERS:
            setattr(os, name, self._of_number(name))
        os.open = self._os_open
        builtins.open = io.open = self._open
        return self

    def __exit__(self, *_: object) -> None:
        for name, function in self.plain.items():
            setattr(os, name, function)
        builtins.open = io.open = self.plain_open
        for number in self.numbers:  # of a process that was killed: its locks are free again
            try:
                os.close(number)
            except OSError:
                continue

    def fails(self, name: str) -> BaseException | None:
        """Count an operation; return the error that it is to raise."""
        self.count += 1
        self.told(self.count, name)
        if not self.at or self.count < self.at:
            return None
        if self.fault == "kill":
            return Killed()
        if self.fault == "ENOSPC":
            full = name not in _FREEING
            return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) if full else None
        return OSError(errno.EIO, os.strerror(errno.EIO)) if self.count == self.at else None

    def operate(self, name: str, path: object, do: Callable[[], Any], half: Callable = bool) -> Any:
        """Do an operation on a path, or half of it and raise an error."""
        if not self._inside(path):
            return do()
        error = self.fails(name)
        if error is None:
            return do()
        if self.count == self.at:
            half()
        if isinstance(error, Killed):
            self.kill()
        elif name not in _OF_NUMBERS:
            error.filename = path  # as the system does
        raise error

    def _inside(self, path: object) -> bool:
        if isinstance(path, int):
            try:
                path = os.readlink(f"/proc/self/fd/{path}")
            except OSError:
                return False
        return os.path.abspath(os.fsdecode(path)).startswith(self.home)

    def _of_path(self, name: str) -> Callable:
        plain = self.plain[name]
        return lambda path, *rest, **more: self.operate(
            name, path, lambda: plain(path, *rest, **more)
        )

    def _of_number(self, name: str) -> Callable:
        plain = self.plain[name]

        def operation(number: int, *rest: Any) -> Any:
            half = bool
            if name == "write":
                half = lambda: plain(number, bytes(rest[0])[: len(rest[0]) // 2])  # noqa: E731
            if name == "fsync" and self._inside(number):  # counted, and not waited for
                return self.operate(name, number, bool)
            return self.operate(name, number, lambda: plain(number, *rest), half)

        return operation

    def _os_open(self, path: Any, flags: int, *rest: Any, **more: Any) -> int:
        plain = self.plain["open"]
        if not flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
            return plain(path, flags, *rest, **more)
        number = self.operate("open", path, lambda: plain(path, flags, *rest, **more))
        if self._inside(number):
            self.numbers.add(number)
        return number

    def _open(
        self, file: Any, mode: str = "r", buffering: int = -1, *rest: Any, **more: Any
    ) -> Any:
        if not set(mode) & set("wax+") or isinstance(file, int) or not self._inside(file):
            return self.plain_open(file, mode, buffering, *rest, **more)
        raw = self.operate("open", file, lambda: _File(self, file, mode.replace("b", "")))
        buffered = io.BufferedRandom(raw) if "+" in mode else io.BufferedWriter(raw)
        return buffered if "b" in mode else io.TextIOWrapper(buffered, *rest, **more)


class _File(io.FileIO):
    """A file that tells a disk what is written to it."""

    def __init__(self, disk: Disk, file: Any, mode: str):
        super().__init__(file, mode.replace("t", ""))
        self._disk = disk

    def write(self, data: Any) -> int:
        data = bytes(data)
        plain = super().write
        half = lambda: plain(data[: len(data) // 2])  # noqa: E731
        return self._disk.operate("write", self.fileno(), lambda: plain(data), half)
