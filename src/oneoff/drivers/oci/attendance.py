"""What a supervisor does while its container runs: one poll loop over output, end, control FIFO and deadline."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import time

from oneoff.logs.writer import LogWriter

_READ_BYTES = 256 * 1024
_DRAIN_SECONDS = 5.0
_ADOPTION_SECONDS = 5.0
# The server ends a run at its deadline; we do it only when it does not.
_DEADLINE_MARGIN_SECONDS = 1.0


class Attendance:
    """Ends when PID 1 has ended and its output is drained. `stopped_by` is set only by our own deadline."""

    def __init__(self, pid: int, outputs: dict[int, str], control: int, log: LogWriter) -> None:
        self.deadline: float | None = None
        self.grace = 10.0
        self.stopped_by: str | None = None
        self.finished_at = 0.0
        self._pid = pid
        self._outputs = outputs
        self._control = control
        self._log = log
        self._kill_at: float | None = None  # on the monotonic clock: a set-back wall clock must not stretch a grace
        self._pidfd = os.pidfd_open(pid)
        self._code = 0
        self._poll = select.poll()
        for fd in (*outputs, control, self._pidfd):
            self._poll.register(fd, select.POLLIN)

    def until_end(self) -> int:
        """The exit code: 128+n for signal n. PID 1 is reaped, so nothing of its PID namespace is left."""
        while True:
            for fd, _ in self._poll.poll(self._milliseconds_to_next()):
                if fd == self._pidfd:
                    self._reap()
                    self._drain()
                    return self._code
                if fd == self._control:
                    self._obey()
                else:
                    self._read(fd)
            self._keep_time()

    def finish_log(self) -> None:
        self._log.finish()

    def _reap(self) -> None:
        status = _wait_status(self._pid)
        self.finished_at = time.time()
        code = os.waitstatus_to_exitcode(status)
        self._code = code if code >= 0 else 128 - code
        self._poll.unregister(self._pidfd)
        self._poll.unregister(self._control)
        os.close(self._pidfd)

    def _drain(self) -> None:
        until = time.monotonic() + _DRAIN_SECONDS
        while self._outputs and (left := until - time.monotonic()) > 0:
            for fd, _ in self._poll.poll(left * 1000):
                self._read(fd)

    def _read(self, fd: int) -> None:
        data = os.read(fd, _READ_BYTES)
        if data:
            self._log.append(self._outputs[fd], time.time_ns() // 1000, data)
            return
        self._poll.unregister(fd)
        os.close(fd)
        del self._outputs[fd]

    def _obey(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for line in os.read(self._control, 4096).decode(errors="replace").splitlines():
                word, _, value = line.partition(" ")
                with contextlib.suppress(ValueError):
                    if word == "stop":
                        self._stop(float(value))
                    elif word == "deadline":
                        self.deadline = float(value)

    def _stop(self, grace: float) -> None:
        kill_at = time.monotonic() + max(0.0, grace)
        if self._kill_at is None and grace > 0:
            self._send(signal.SIGTERM)
        # A second stop can shorten a grace, never stretch it.
        self._kill_at = kill_at if self._kill_at is None else min(self._kill_at, kill_at)

    def _keep_time(self) -> None:
        if self._is_past_deadline():
            self.stopped_by = "timeout"
            self._stop(self.grace)
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._send(signal.SIGKILL)
            # Seen again only if the kernel has not ended it by then.
            self._kill_at = time.monotonic() + 1.0

    def _is_past_deadline(self) -> bool:
        due = self.deadline is not None and time.time() >= self.deadline + _DEADLINE_MARGIN_SECONDS
        return due and self._kill_at is None

    def _milliseconds_to_next(self) -> float | None:
        if self._kill_at is not None:
            return max(0.0, (self._kill_at - time.monotonic()) * 1000)
        if self.deadline is None:
            return None
        # At most a minute: the wall clock may be set meanwhile.
        return min(60_000.0, max(0.0, (self.deadline + _DEADLINE_MARGIN_SECONDS - time.time()) * 1000) + 1)

    def _send(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, number)


def _wait_status(pid: int) -> int:
    """crun returns an instant before its last process between us and the container ends: a command that was quicker
    becomes our child only then. Raises ChildProcessError when it never does."""
    give_up = time.monotonic() + _ADOPTION_SECONDS
    while True:
        try:
            return os.waitpid(pid, 0)[1]
        except ChildProcessError:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.0005)
