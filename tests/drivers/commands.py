"""Commands of the contract suite, each with what it means to the fake driver."""

from __future__ import annotations

from dataclasses import dataclass

from oneoff.drivers.fake_engine import Script
from oneoff.errors import CommandNotExecutable, CommandNotFound


@dataclass(frozen=True)
class Command:
    argv: tuple[str, ...]
    script: Script


ALL: list[Command] = []


def _sh(script: str, means: Script) -> Command:
    return _argv(("sh", "-c", script), means)


def _argv(argv: tuple[str, ...], means: Script) -> Command:
    command = Command(argv, means)
    ALL.append(command)
    return command


def exit_with(code: int) -> Command:
    return _sh(f"exit {code}", Script(code=code))


EXITS = {code: exit_with(code) for code in (0, 1, 7, 126, 127, 130, 143, 255)}
TRUE = _argv(("true",), Script())
KILL_9_SELF = _sh("kill -9 $$", Script(code=137))
TERM_SELF = _sh("kill -TERM $$", Script(code=143))
FOREVER = _sh("exec sleep 1000", Script(code=None))
FOREVER_WITH_OUTPUT = _sh(
    "echo ready; echo also >&2; exec sleep 1000",
    Script(output=(("stdout", b"ready\n"), ("stderr", b"also\n")), code=None),
)
TERM_TRAPPED = _sh(
    "trap 'echo got TERM; exit 9' TERM; echo ready; while :; do sleep 0.05; done",
    Script(output=(("stdout", b"ready\n"),), code=None, code_on_term=9),
)
TERM_IGNORED = _sh(
    "trap '' TERM; echo ready; while :; do sleep 0.05; done",
    Script(output=(("stdout", b"ready\n"),), code=None, code_on_term=None),
)
BOTH_STREAMS = _sh(
    "echo out 1; echo err 1 >&2; printf 'out, no newline'; printf 'err, no newline' >&2",
    Script(
        output=(
            ("stdout", b"out 1\n"),
            ("stderr", b"err 1\n"),
            ("stdout", b"out, no newline"),
            ("stderr", b"err, no newline"),
        )
    ),
)
SILENT = _sh(":", Script())
BINARY_BYTES = bytes(range(256)) + b"\xff\xfe\x80\x00\r\n\n" + bytes(reversed(range(256)))
BINARY = _sh(
    "printf '" + "".join(f"\\{byte:03o}" for byte in BINARY_BYTES) + "'",
    Script(output=(("stdout", BINARY_BYTES),)),
)
LONG_LINE_BYTES = 5_000_000
LONG_LINE = _sh(
    f"head -c {LONG_LINE_BYTES} /dev/zero | tr '\\0' x; echo; head -c 16384 /dev/zero | tr '\\0' y >&2",
    Script(output=(("stdout", b"x" * LONG_LINE_BYTES + b"\n"), ("stderr", b"y" * 16384))),
)
MANY_LINES = 20_000
LINES = _sh(
    f"seq 1 {MANY_LINES}; seq 1 {MANY_LINES} >&2; printf end",
    Script(
        output=(
            ("stdout", b"".join(b"%d\n" % n for n in range(1, MANY_LINES + 1))),
            ("stderr", b"".join(b"%d\n" % n for n in range(1, MANY_LINES + 1))),
            ("stdout", b"end"),
        )
    ),
)
BACKGROUND_CHILD = _sh(
    "(while :; do echo tick; : > /tmp/told; sleep 0.02; done) & while [ ! -e /tmp/told ]; do sleep 0.02; done; exit 3",
    Script(output=(("stdout", b"tick\n"),), code=3),
)
STDIN = _sh("cat; if [ -t 0 ] || [ -t 1 ]; then echo tty; else echo none; fi", Script(output=(("stdout", b"none\n"),)))
OUT_OF_MEMORY = _sh(
    # awk doubles a string until the limit is hit; exec makes it the command itself.
    """exec awk 'BEGIN { text = "x"; while (1) text = text text }'""",
    Script(code=137, oom=True),
)
NOT_FOUND = _argv(("no-such-command",), Script(refusal=CommandNotFound("no-such-command")))
NOT_FOUND_PATH = _argv(("/no/such/file",), Script(refusal=CommandNotFound("/no/such/file")))
DANGLING_LINK = _argv(("/srv/dangling",), Script(refusal=CommandNotFound("/srv/dangling")))
BAD_INTERPRETER = _argv(("/srv/badinterp",), Script(refusal=CommandNotFound("/srv/badinterp")))
NOT_EXECUTABLE = _argv(("/srv/notexec",), Script(refusal=CommandNotExecutable("/srv/notexec", "mode 644")))
FOLDER = _argv(("/srv",), Script(refusal=CommandNotExecutable("/srv", "it is a folder")))
SCRIPT = _argv(("/srv/script", "a b", "c"), Script(output=(("stdout", b"script: a b c\n"),)))
LINK = _argv(("../srv/link", "x"), Script(output=(("stdout", b"script: x\n"),)))
ECHO = _argv(("/bin/echo", "no shell here"), Script(output=(("stdout", b"no shell here\n"),)))
