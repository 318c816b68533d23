"""What a run executes: the two forms of a command, and how they meet the image's entrypoint. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from oneoff.core.image import ImageConfig
from oneoff.errors import InvalidCommand

KEEP = "keep"
CLEAR = "clear"
Entrypoint = str | tuple[str, ...]  # "keep", "clear" or the list that takes its place

_SHELL = ("/bin/sh", "-c")
_MOST_ARGUMENT_BYTES = 131_071  # MAX_ARG_STRLEN of the Linux kernel, without the terminating NUL
# With the variables, which may have as many, it stays below the kernel's 2 MB: beyond it says "Argument list too long",
# and that would look like an end of the command's own.
_MOST_BYTES_IN_ALL = 1_000_000
_BYTES_BESIDE_EACH = 9  # the NUL and the pointer

# Entrypoints that end in `exec "$@"`: a command given to them is run, not swallowed.
EXEC_WRAPPERS = frozenset(
    {
        "tini", "tini-static", "dumb-init", "catatonit", "env", "gosu", "su-exec", "setpriv", "nice", "chpst",
        "entrypoint", "entrypoint.sh", "docker-entrypoint", "docker-entrypoint.sh", "init", "launcher",
    }
)  # fmt: skip
# What people type first that is no program of any image.
_BUILTINS = frozenset({".", "alias", "cd", "eval", "exec", "export", "set", "source", "trap", "ulimit", "unset"})


@dataclass(frozen=True, slots=True)
class Command:
    """Exactly one of the two forms: `argv` is executed as it is, `shell` runs under /bin/sh -c."""

    argv: tuple[str, ...] | None = None
    shell: str | None = None

    @property
    def arguments(self) -> tuple[str, ...]:
        """What takes the place of the image's CMD."""
        return self.argv if self.argv is not None else (*_SHELL, self.shell or "")


def make_command(argv: Sequence[str] | None, shell: str | None) -> Command:
    """A checked command. Raises InvalidCommand."""
    if (argv is None) == (shell is None):
        raise InvalidCommand("give exactly one of command (a list) and shell (a string)")
    if shell is not None:
        if not shell.strip():
            raise InvalidCommand("the shell command is empty", "shell")
        _check_argument(shell, "shell")
        return Command(shell=shell)
    assert argv is not None
    if not argv or not argv[0]:
        raise InvalidCommand("the command is empty: write it after --, for example -- python manage.py migrate")
    total = sum(_check_argument(argument, "command") + _BYTES_BESIDE_EACH for argument in argv)
    if total > _MOST_BYTES_IN_ALL:
        raise InvalidCommand(
            f"the command has {total} bytes in all, the limit is {_MOST_BYTES_IN_ALL}: put long lists in a file"
        )
    return Command(argv=tuple(argv))


def make_entrypoint(choice: str | Sequence[str] | None) -> Entrypoint | None:
    """`keep`, `clear` or a list; None stays None (nothing chosen). Raises InvalidCommand."""
    if choice is None or choice in (KEEP, CLEAR):
        return choice
    if isinstance(choice, str) or not choice or not choice[0]:
        raise InvalidCommand("entrypoint is `keep`, `clear` or a list that is not empty", "entrypoint")
    for argument in choice:
        _check_argument(argument, "entrypoint")
    return tuple(choice)


def complete_argv(command: Command, entrypoint: Entrypoint, image: ImageConfig) -> tuple[str, ...]:
    """What is executed: the entrypoint, then the command instead of the image's CMD, as `docker run IMAGE …` does."""
    if entrypoint == KEEP:
        return (*image.entrypoint, *command.arguments)
    if entrypoint == CLEAR:
        return command.arguments
    return (*entrypoint, *command.arguments)


def explain_missing(argv0: str, search_path: str, working_dir: str) -> str:
    """What helps when the image has no such program; empty where nothing more can be said."""
    if argv0.startswith("/"):
        return ""
    if "/" in argv0:
        return f"a relative path starts at the working directory, {working_dir or '/'}"
    if argv0 in _BUILTINS:
        return "a shell builtin needs `--shell`"
    if any(each.isspace() for each in argv0):
        return "it is one word with blanks: give the words one by one, or use `--shell`"
    return f"none of PATH has it ({search_path})"


def entrypoint_warning(image: ImageConfig, path: str) -> str | None:
    """A sentence with the fix when the image's entrypoint may swallow a command; None when it is known to run it."""
    entrypoint = image.entrypoint
    if not entrypoint:
        return None
    program = PurePosixPath(entrypoint[0]).name
    if program in EXEC_WRAPPERS and not str(entrypoint[0]).startswith("/cnb/process/"):
        return None
    shown = " ".join(entrypoint)
    return (
        f"the image's entrypoint is `{shown}`, which may swallow a command instead of running it. If runs of {path} "
        f"do not run their command, set `oneoff service update {path} --entrypoint clear`"
    )


def _check_argument(argument: str, field: str) -> int:
    """Its bytes. Raises InvalidCommand."""
    if "\0" in argument:
        raise InvalidCommand("a command cannot contain the character NUL", field)
    try:
        length = len(argument.encode())
    except UnicodeEncodeError:
        raise InvalidCommand("a command must be valid Unicode", field) from None
    if length > _MOST_ARGUMENT_BYTES:
        raise InvalidCommand(
            f"one argument has {length} bytes, the kernel takes at most {_MOST_ARGUMENT_BYTES}: "
            "pass a file's name instead of its content",
            field,
        )
    return length
