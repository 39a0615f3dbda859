"""Call the command line in a process of its own, forked from one that has imported everything."""

import contextlib
import hashlib
import io
import os
import re
import resource
import signal
import sys
import tempfile
import time
import traceback
from dataclasses import dataclass
from pathlib import Path

SECONDS = 120
"""A call that takes longer counts as hanging."""

MORE_SECONDS = 2.0
"""Processor time that a call may take beyond the same call on a folder without damage."""

MORE_MEMORY = 1 << 30
"""Bytes of memory that a call may take beyond the same call on a folder without damage."""

MEMORY = 3 << 30
"""Bytes of address space that a call may take beyond what is imported: it ends there."""

TINY = ("digits", "--limit", "60", "--max-bond", "2", "--threads", "1", "--quiet")
"""What is trained here: digits, small."""


def prepare() -> None:
    """Do once what calls do first, imports above all: forked processes have it."""
    os.environ["MPLBACKEND"] = "agg"
    os.environ.pop("FTNN_DEBUG", None)
    import torch

    from ftnn.cli import main

    torch.set_num_threads(1)
    arguments = sys.argv
    with tempfile.TemporaryDirectory() as home:
        run = f"{home}/run"
        first = ("train", *TINY, "--epochs", "1", "--out", run)
        for words in (first, ("evaluate", run), ("inspect", run)):
            sys.argv = ["ftnn", *words]
            with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
                main()
    sys.argv = arguments


@dataclass(frozen=True)
class Call:
    """What became of a call.

    Attributes
    ----------
    code : int
        Exit code; minus the signal that ended it.
    out, err : str
        What it printed.
    seconds : float
        Processor time of the process, of user and system.
    wall : float
        Seconds until it ended.
    memory : int
        Largest size in memory, in bytes.
    """

    code: int
    out: str
    err: str
    seconds: float = 0.0
    wall: float = 0.0
    memory: int = 0

    @property
    def refused(self) -> bool:
        """Whether it told one clear line, and nothing else."""
        return (
            self.code == 2
            and self.err.startswith("ftnn: error: ")
            and self.err.count("\n") == 1
            and "internal" not in self.err
        )

    @property
    def told(self) -> str:
        """Output without what differs from call to call."""
        return " ".join(re.sub(r"[\d,.]+ samples/s|[\d.]+ s\b", "", self.out).split())

    def __str__(self) -> str:
        return f"exit code {self.code}\n    {self.err[-600:].strip()}"


class Process:
    """A forked process that runs ``ftnn`` with some arguments."""

    def __init__(
        self,
        *arguments: object,
        memory: int = MEMORY,
        within: contextlib.AbstractContextManager | None = None,
    ):
        self.files = [tempfile.mkstemp() for _ in range(2)]
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._child([str(word) for word in arguments], memory, within)
        self.begun = time.monotonic()

    def _child(
        self, words: list[str], memory: int, within: contextlib.AbstractContextManager | None
    ) -> None:
        code = 70
        try:
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            for number, (file, _) in enumerate(self.files, 1):
                os.dup2(file, number)
            size = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
            if memory:
                resource.setrlimit(resource.RLIMIT_AS, (size + memory, size + memory))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115
            sys.stderr = open(2, "w", closefd=False)  # noqa: SIM115
            sys.argv = ["ftnn", *words]
            from ftnn.cli import main

            try:
                with within or contextlib.nullcontext():
                    main()
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            with contextlib.suppress(OSError):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(code)

    def kill(self, number: int) -> None:
        """Send a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, number)

    def wait(self, seconds: float = SECONDS) -> Call:
        """Wait for the end; a process that hangs is killed and counts as such."""
        hangs = False
        while True:
            pid, status, used = os.wait4(self.pid, 0 if hangs else os.WNOHANG)
            if pid:
                break
            if time.monotonic() - self.begun > seconds:
                self.kill(signal.SIGKILL)
                hangs = True
            time.sleep(0.005)
        wall = time.monotonic() - self.begun
        out, err = (Path(name).read_text(errors="replace") for _, name in self.files)
        for file, name in self.files:
            os.close(file)
            os.unlink(name)
        code = os.waitstatus_to_exitcode(status)
        if hangs:
            code, err = -999, err + f"no end within {seconds} s"
        cpu, memory = used.ru_utime + used.ru_stime, used.ru_maxrss << 10
        return Call(code, out, err, cpu, wall, memory)


def call(
    *arguments: object,
    seconds: float = SECONDS,
    memory: int = MEMORY,
    within: contextlib.AbstractContextManager | None = None,
) -> Call:
    """Run ``ftnn`` with some arguments to its end, within a context of the new process."""
    return Process(*arguments, memory=memory, within=within).wait(seconds)


def contents(folder: Path) -> dict[str, str]:
    """Digest of everything in a folder but the lock, by name; what is no file by its kind."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if name == ".lock":
            continue
        if path.is_symlink():
            found[name] = f"link to {os.readlink(path)}"
        elif path.is_file():
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest()
        else:
            found[name] = "folder" if path.is_dir() else "other"
    return found
