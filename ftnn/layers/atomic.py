"""Atomic file replacement: a crash or a full disk leaves either the old file or the new one."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_REASONS = {
    errno.ENOSPC: "no space left on the device; free some space, nothing saved before is lost",
    errno.EDQUOT: "the disk quota is exceeded; free some space, nothing saved before is lost",
    errno.EROFS: "the file system is read-only; use a copy in a folder that can be written",
    errno.EACCES: "permission denied; use a copy in a folder that can be written",
}


@contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces ``path`` atomically at the end.

    The temporary file is flushed to disk before the replacement, the folder after it; if the block
    raises, the temporary file is removed and ``path`` is unchanged.

    Parameters
    ----------
    path : path
        Path in an existing folder.

    Raises
    ------
    OSError
        If the disk is full or not writable; a one-line message.

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
    """Turn errors of the disk into an ``OSError`` that names ``path``, and states the remedy."""
    try:
        yield
    except OSError as error:
        if error.errno is None or _is_clear(error):
            raise
        reason = _REASONS.get(error.errno, f"{error.strerror}; nothing saved before is lost")
        clear = type(error)(f"cannot write {path}: {reason}")
        clear.errno = error.errno
        raise clear from None


def _is_clear(error: OSError) -> bool:
    """Return whether the error is one of :func:`clear_write_errors`, of a file written within."""
    return error.strerror is None


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
