"""Lock of a run folder: only one training run at a time writes to it."""

import contextlib
import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..layers.atomic import clear_write_errors

try:
    import fcntl
except ImportError:  # Windows: only the file says who is training
    fcntl = None  # type: ignore[assignment]

LOCK_NAME = ".lock"
_held: set[tuple[str, int]] = set()  # folders locked, each with the thread that did


@contextmanager
def locked_folder(folder: str | os.PathLike) -> Iterator[None]:
    """Lock a run folder; reentrant within a thread.

    The lock is a file, ``.lock``, that names its holder, locked by :func:`fcntl.flock`: the system
    releases it when the process ends in any way, so a stale lock is reacquired. Where the file
    system lacks such locks, a lock of a process that no longer runs on this host is reacquired,
    too.

    Parameters
    ----------
    folder : path
        Existing, writable folder.

    Raises
    ------
    ValueError
        If another training run holds the lock; the message names it.
    OSError
        If the folder cannot be written.
    """
    path = Path(folder).resolve() / LOCK_NAME
    key = str(path), threading.get_ident()
    if key in _held:
        yield
        return
    with clear_write_errors(path):
        number = _acquire(path)
    _held.add(key)
    try:
        yield
    finally:
        _held.discard(key)
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)  # before the lock is released: none takes it in between
        os.close(number)


def _acquire(path: Path) -> int:
    """Open and lock the file; return its descriptor."""
    while True:
        number = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            if not _flock(number):
                raise ValueError(_refusal(path, _holder(number)))
            try:
                same = os.fstat(number).st_ino == os.stat(path).st_ino
            except FileNotFoundError:
                same = False
            if same:
                about = {
                    "pid": os.getpid(),
                    "host": socket.gethostname(),
                    "since": time.strftime("%Y-%m-%d %H:%M:%S"),
                }
                os.ftruncate(number, 0)
                os.lseek(number, 0, os.SEEK_SET)
                os.write(number, json.dumps(about).encode())
                return number
        except BaseException:
            os.close(number)
            raise
        os.close(number)  # its holder removed the file between our opening and locking it


def _flock(number: int) -> bool:
    """Lock an open file; return False if another process holds the lock."""
    if fcntl is not None:
        try:
            fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS, errno.EINVAL):
                raise
    return not _alive(_holder(number))


def _holder(number: int) -> dict[str, Any]:
    """Read the holder of the lock; empty if the file does not name one."""
    try:
        os.lseek(number, 0, os.SEEK_SET)
        about = json.loads(os.read(number, 1024))
    except (ValueError, RecursionError):
        return {}
    return about if isinstance(about, dict) else {}


def _alive(holder: dict[str, Any]) -> bool:
    """Return whether the process may still be running; one on another host may be."""
    pid = holder.get("pid")
    if not isinstance(pid, int) or pid < 1:
        return False
    if holder.get("host") != socket.gethostname():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _refusal(path: Path, holder: dict[str, Any]) -> str:
    who = "another process"
    if holder:
        pid, host, since = (str(holder.get(key))[:100] for key in ("pid", "host", "since"))
        who = f"process {pid} on {host}, since {since}"
    return (
        f"run folder {path.parent} is in use by another training run ({who}); wait for it, stop "
        f"it, or choose another folder. If it is gone, remove {path}"
    )
