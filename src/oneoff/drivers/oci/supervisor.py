"""The life of one container, in a process of its own that outlives server and zygote. Forked by `zygote`.

Claim, mounts in a private namespace, one call of the runtime, then: drain the output into the log, obey the control
FIFO, enforce the deadline, write the facts of the end, clean up. Standard library and the log writer only.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from oneoff.drivers.oci import cgroup, linux
from oneoff.drivers.oci.attendance import Attendance
from oneoff.drivers.oci.folder import (
    EXIT,
    RUN,
    START_FAILED,
    STARTED,
    is_there,
    read_json,
    take_claim,
    write_json,
)
from oneoff.logs.writer import LogWriter

_PIPE_BYTES = 512 * 1024
_F_SETPIPE_SZ = 1031
_WORDS_BYTES = 2000


def supervise(folder: str, engine_id: str) -> None:
    """Do all of it. Returns silently when the folder is not that container's any more, or the claim is taken."""
    run = read_json(folder, RUN)
    if run is None or run["engine_id"] != engine_id or take_claim(folder) is None:
        return
    if read_json(folder, RUN) != run:
        return
    linux.adopt_orphans()
    _detach_standard_streams()
    try:
        started = _Container(folder, run).start()
    except (OSError, _RuntimeRefused) as problem:
        _clean_up(run)
        write_json(folder, START_FAILED, {"words": str(problem)})
        return
    started.attend()
    _clean_up(run)


class _RuntimeRefused(Exception):
    """The runtime's own words."""


class _Container:
    """One container from its mounts to its facts."""

    def __init__(self, folder: str, run: dict[str, Any]) -> None:
        self._folder = folder
        self._run = run
        self._bundle: str = run["bundle"]
        self._started_at = 0.0
        self._attendance: Attendance

    def start(self) -> _Container:
        self._mount()
        # Before the start: a log that cannot be opened must not cost a command that runs.
        log = LogWriter(Path(self._run["log_dir"]), self._run["log_cap_bytes"])
        control = os.open(f"{self._folder}/control", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
        out, out_end = _pipe()
        err, err_end = _pipe()
        try:
            runtime = self._spawn(out_end, err_end)
        finally:
            os.close(out_end)
            os.close(err_end)
        if self._run["foreground"]:
            self._await_running(runtime, err)
            pid = runtime
        else:
            _, status = os.waitpid(runtime, 0)
            if status:
                raise _RuntimeRefused(self._words(err, status))
            with open(f"{self._bundle}/pid", "rb") as file:  # noqa: PTH123
                pid = int(file.read())
        self._started_at = time.time()
        self._attendance = Attendance(pid, {out: "stdout", err: "stderr"}, control, log)
        with contextlib.suppress(OSError):
            write_json(self._folder, STARTED, {"pid": pid, "started_at": self._started_at})
        return self

    def attend(self) -> None:
        """Until the end, and write down how it ended."""
        attendance = self._attendance
        attendance.deadline, attendance.grace = self._run["deadline"], self._run["grace"]
        code = attendance.until_end()
        facts = {
            "code": code,
            "oom_seen": cgroup.oom_kills(self._run["cgroups"]) > 0,
            "started_at": self._started_at,
            "finished_at": max(attendance.finished_at, self._started_at),
            "stopped_by": attendance.stopped_by,
        }
        attendance.finish_log()
        write_json(self._folder, EXIT, facts, durable=True)

    def _mount(self) -> None:
        linux.unshare_mounts()
        for path in self._run["hide"]:
            # Covered, not unmounted: what crun writes there must vanish with this namespace.
            linux.mount("tmpfs", "oneoff", path, linux.MS_NOSUID | linux.MS_NODEV | linux.MS_NOEXEC, "size=64k")
        # A container that Oneoff 0.1.0 made has the whole path of its image's one tree.
        lower = self._run["lowerdir"] if "lowerdir" in self._run else self._run["rootfs"]
        layers = f"lowerdir={lower},upperdir={self._folder}/upper,workdir={self._folder}/work"
        # Relative names, so that those of many layers fit into the one page that mount(2) takes.
        os.chdir(self._run.get("image", "/"))
        linux.mount_overlay(f"{self._bundle}/rootfs", layers)
        os.chdir("/")

    def _spawn(self, out: int, err: int) -> int:
        """The one call of the runtime. Its standard streams become the container's."""
        argv: list[str] = self._run["runtime_argv"]
        null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
        actions = [(os.POSIX_SPAWN_DUP2, null, 0), (os.POSIX_SPAWN_DUP2, out, 1), (os.POSIX_SPAWN_DUP2, err, 2)]
        try:
            if self._run["confine"]:
                return _spawn_confined(self._run, argv, (null, out, err))
            return os.posix_spawn(argv[0], argv, _environment(self._bundle), file_actions=actions)
        finally:
            os.close(null)

    def _await_running(self, runtime: int, err: int) -> None:
        """A sandbox in the foreground ends with its command's code: its state file tells a start from a failure."""
        state = f"{self._bundle}/runtime/{self._run['engine_id']}_sandbox:{self._run['engine_id']}.state"
        while True:
            with contextlib.suppress(OSError, ValueError), open(state, "rb") as file:  # noqa: PTH123
                if json.load(file)["status"] != "creating":
                    return
            ended = os.waitid(os.P_PID, runtime, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if ended is not None:
                if is_there(self._bundle, "runtime.log") and (words := self._words(err, ended.si_status << 8)):
                    raise _RuntimeRefused(words)
                return
            time.sleep(0.005)

    def _words(self, err: int, status: int) -> str:
        """What the runtime said: its log file if it wrote one, else its standard error."""
        with contextlib.suppress(OSError), open(f"{self._bundle}/runtime.log", encoding="utf-8") as file:  # noqa: PTH123
            if text := to_words(file.read()):
                return text[-_WORDS_BYTES:]
        os.set_blocking(err, False)
        with contextlib.suppress(BlockingIOError):
            if text := os.read(err, _WORDS_BYTES).decode(errors="replace").strip():
                return text
        return f"{self._run['runtime_argv'][0]} ended with status {os.waitstatus_to_exitcode(status)}"


def _spawn_confined(run: dict[str, Any], argv: list[str], streams: tuple[int, int, int]) -> int:
    """A runtime that knows nothing of cgroups: it enters them before it begins, and all its children with it."""
    cgroup.make(run["cgroups"], run["confine"])
    pid = os.fork()
    if pid:
        return pid
    try:
        cgroup.enter(run["cgroups"])
        for number, fd in enumerate(streams):
            os.dup2(fd, number)
        os.execve(argv[0], argv, _environment(run["bundle"]))  # noqa: S606 - never a shell
    finally:
        os._exit(127)


def to_words(runtime_log: str) -> str:
    """The messages of errors in the log of runc, crun or runsc: one JSON object per line, `level` and `msg`."""
    words = []
    for line in runtime_log.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            words.append(line)
        else:
            if entry.get("level") in {"error", "fatal", "panic"}:
                words.append(entry.get("msg", ""))
    return "; ".join(words)


def _clean_up(run: dict[str, Any]) -> None:
    """After the facts are safe. What fails here is left for `remove`, which looks again."""
    cgroup.clear(run["cgroups"])
    with contextlib.suppress(OSError):
        linux.unmount(f"{run['bundle']}/rootfs")
    for path in (run["bundle"], run["upper"], run["work"]):
        shutil.rmtree(path, ignore_errors=True)


def _detach_standard_streams() -> None:
    """The server's terminal or log pipe must not be held open by us."""
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.close(null)


def _pipe() -> tuple[int, int]:
    read_end, write_end = os.pipe()
    with contextlib.suppress(OSError):
        fcntl.fcntl(read_end, _F_SETPIPE_SZ, _PIPE_BYTES)
    return read_end, write_end


def _environment(bundle: str) -> dict[str, str]:
    # No TMPDIR of ours: runsc enters it as nobody, and the bundle is root's alone.
    return {"PATH": f"{os.defpath}:/usr/sbin:/sbin", "HOME": bundle, "LANG": "C.UTF-8"}
