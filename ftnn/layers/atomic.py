"""Files replaced in one step: a crash or a full disk leaves the old one, or the new one."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_REASONS = {
    errno.ENOSPC: "no space left on the device; make room and go on, nothing saved before is lost",
    errno.EDQUOT: "the disk quota is used up; make room and go on, nothing saved before is lost",
    errno.EROFS: "the file system is read-only; use a copy in a folder that can be written",
    errno.EACCES: "permission denied; use a copy in a folder that can be written",
}


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Give the path of a temporary file, which replaces ``path`` in one step at the end.

    The temporary file is flushed to disk before, the folder after; where the block raises, the
    temporary file is removed and ``path`` stays as it was.

    Parameters
    ----------
    path : path
        In a folder that exists.

    Raises
    ------
    OSError
        If the disk is full or cannot be written, in one line.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "notes.txt"
    >>> with replacing(path) as temporary:
    ...     _ = temporary.write_text("kept")
    >>> path.read_text()
    'kept'
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with clear_write_errors(path):
            yield temporary
            _flush(temporary)
            os.replace(temporary, path)
            if os.name == "posix":
                _flush(path.parent)
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def clear_write_errors(path: str | os.PathLike) -> Iterator[None]:
    """Turn what a full or read-only disk raises into an ``OSError`` that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno not in _REASONS:
            raise
        clear = OSError(f"cannot write {path}: {_REASONS[error.errno]}")
        clear.errno = error.errno
        raise clear from None


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
