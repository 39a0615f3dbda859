"""Graceful interruption by signals: Ctrl-C, and those by which clusters preempt a job."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)


@dataclass
class Interruption:
    """The signal that asked to stop, if any has."""

    signal: int | None = None


@contextmanager
def graceful_stop(request_stop: Callable[[], None]) -> Iterator[Interruption]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into ``request_stop()``.

    A Ctrl-C after that raises KeyboardInterrupt; repeated SIGTERM and SIGHUP, which schedulers
    send, change nothing. Signals that were ignored, as SIGHUP is under ``nohup``, stay ignored.
    A KeyboardInterrupt that leaves the block has the number of the first signal, if there was one.
    Only on the main thread, where Python allows signal handlers; elsewhere nothing changes. The
    previous handlers are restored at the end of the block.

    Parameters
    ----------
    request_stop : callable
        Called from a signal handler.

    Yields
    ------
    Interruption
        Names the first of these signals once it has arrived.
    """
    found = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return

    def handle(number: int, frame: object) -> None:
        if found.signal is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        if found.signal is None:
            found.signal = number
            request_stop()

    before = {}
    try:
        for number in SIGNALS:
            if signal.getsignal(number) != signal.SIG_IGN:
                before[number] = signal.signal(number, handle)
        yield found
    except KeyboardInterrupt as stop:
        if stop.args or found.signal is None:
            raise
        raise KeyboardInterrupt(found.signal) from None
    finally:
        for number, handler in before.items():
            # None: a handler that was not set from Python, and cannot be restored from here
            fallback = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
            signal.signal(number, fallback if handler is None else handler)
