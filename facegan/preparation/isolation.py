"""Calls in a child process, so that no file can take a build down with it.

Decoders are native code. Among a million files there is one that crashes one of them, or on which
it never returns; neither can be caught inside a process. An ``IsolatedWorker`` makes the calls in
a child and turns its end, or its silence, into ``Rejected``.
"""

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.connection import Pipe as make_pipe
from types import TracebackType
from typing import IO, Any

from facegan.errors import FaceganError
from facegan.preparation.items import Rejected

# Every child has one core; more threads would only take each other's.
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENCV_FOR_THREADS_NUM": "1"}


class _Crashed(Exception):
    """The child is gone; the text says how."""


class Stopped(BaseException):
    """The worker was closed from elsewhere while it worked: the work is not done, and not bad."""


class IsolatedWorker:
    """Calls a function in a child process that lives until it crashes or is closed.

    A call whose child crashes is made once more, in another child: it may have been ended for
    want of memory, or by someone who ends everything.

    Args:
        function: A picklable callable; it is sent to a child once.
        time_limit_s: A call that takes longer is given up and its child ended.

    Example:
        >>> with IsolatedWorker(len, time_limit_s=60) as call:
        ...     call("four")
        4
    """

    def __init__(self, function: Callable[..., Any], *, time_limit_s: float) -> None:
        self._function = function
        self._time_limit_s = time_limit_s
        self._child: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._log: IO[bytes] | None = None
        self._closed = False

    def __call__(self, *args: Any) -> Any:
        """Calls the function in the child.

        Raises:
            Rejected: The child crashed twice ("crashed") or took too long ("too_slow").
            Exception: Whatever the function raised.
            Stopped: The worker is closed.
        """
        try:
            done, value = self._ask(args)
        except _Crashed:
            try:
                done, value = self._ask(args)
            except _Crashed as error:
                raise Rejected("crashed", f"The process that read it {error}.") from error
        if not done:
            raise value
        return value

    def close(self) -> None:
        """Ends the child for good."""
        self._closed = True
        self._discard()

    def _ask(self, args: tuple[Any, ...]) -> tuple[bool, Any]:
        if self._closed:
            raise Stopped
        try:
            connection = self._connection or self._start()
            connection.send(args)
            if connection.poll(self._time_limit_s):
                return connection.recv()
        except (EOFError, OSError) as error:
            if self._closed:
                raise Stopped from error
            raise _Crashed(self._end()) from error
        self._discard()
        raise Rejected(
            "too_slow", f"It took longer than {self._time_limit_s:g} s and was given up."
        )

    def _discard(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()
        if self._log is not None:
            self._log.close()
        self._connection = self._child = self._log = None

    def __enter__(self) -> "IsolatedWorker":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _start(self) -> Connection:
        ours, theirs = make_pipe()
        # A file, not a pipe: nobody has to read what decoders write by the way.
        self._log = tempfile.TemporaryFile()
        # A program of its own instead of multiprocessing's spawn, which would import the caller's
        # script again and so run it twice where it has no __main__ guard.
        self._child = subprocess.Popen(
            [sys.executable, "-m", "facegan.preparation.isolation", str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            env={
                **os.environ,
                **_ONE_THREAD,
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
        )
        theirs.close()
        ours.send(self._function)
        self._connection = ours
        return ours

    def _end(self) -> str:
        """How the child ended, in words."""
        assert self._child is not None and self._log is not None
        code = self._child.wait()
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        said = f" and said {lines[-1]!r}" if lines else ""
        self._discard()
        if code >= 0:
            return f"ended with exit code {code}{said}"
        try:
            return f"was ended by {signal.Signals(-code).name}{said}"
        except ValueError:
            return f"was ended by signal {-code}{said}"


def _serve(connection: Connection) -> None:
    """The child's side: answers calls until the parent is gone."""
    # These reach the whole group; it is for the parent to decide.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        function = connection.recv()
        while True:
            args = connection.recv()
            try:
                answer = (True, function(*args))
            except Exception as error:
                answer = (False, _sendable(error))
            connection.send(answer)


def _sendable(error: Exception) -> Exception:
    """An error that survives pickling: itself, or its text."""
    if isinstance(error, FaceganError):
        return error
    try:
        if type(pickle.loads(pickle.dumps(error))) is type(error):
            return error
    except Exception:  # an error class may fail in any way here
        pass
    return RuntimeError(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    _serve(Connection(int(sys.argv[1])))
