"""Ctrl-C that lets a step finish."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def graceful_interrupt(request_stop: Callable[[], None]) -> Iterator[None]:
    """Turn the first Ctrl-C into ``request_stop()``; a second one raises KeyboardInterrupt.

    Only on the main thread, where Python allows signal handlers; elsewhere nothing changes. The
    earlier handler is back when the block is left.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    interrupted = False

    def handle(number: int, frame: object) -> None:
        nonlocal interrupted
        if interrupted:
            raise KeyboardInterrupt
        interrupted = True
        request_stop()

    before = signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        # None: a handler that was not set from Python, and cannot be put back from here
        signal.signal(signal.SIGINT, signal.default_int_handler if before is None else before)
