"""Options and argument types that several commands share."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import click

from oneoff.cli.dotenv import parse_dotenv
from oneoff.cli.problems import CliError
from oneoff.cli.session import Session
from oneoff.core.limits import parse_duration
from oneoff.errors import InvalidDuration


class Duration(click.ParamType[int]):
    """`90s`, `10m`, `1h30m`, `30d`; becomes seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return value if isinstance(value, int) else parse_duration(value)
        except InvalidDuration as problem:
            self.fail(str(problem), param, ctx)


class EntrypointChoice(click.ParamType[str | list[str]]):
    """`keep`, `clear`, or words in shell quoting that become the list in its place."""

    name = "keep|clear|words"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str | list[str]:
        if value in {"keep", "clear"} or isinstance(value, list):
            return value  # type: ignore[no-any-return]
        try:
            words = shlex.split(value)
        except ValueError as problem:
            self.fail(f"{value!r} cannot be split into words: {problem}", param, ctx)
        return words or self.fail("it is empty: write keep, clear or the words of an entrypoint", param, ctx)


entrypoint_option = click.option(
    "--entrypoint",
    type=EntrypointChoice(),
    help="The image's entrypoint: keep it, clear it, or the words that take its place.",
)


def registry_options(command: Any) -> Any:
    """--registry-user and --registry-password-stdin; see `read_credentials`."""
    command = click.option(
        "--registry-password-stdin", is_flag=True, help="Read the registry's password from standard input."
    )(command)
    return click.option(
        "--registry-user", help="User of the image's registry; by default the server user's Docker configuration."
    )(command)


def read_credentials(user: str | None, password_stdin: bool) -> dict[str, str] | None:
    """What the API takes as `registry`; None when nothing was given. Raises a usage error for half of it."""
    if not user and not password_stdin:
        return None
    if not user or not password_stdin:
        raise click.UsageError("--registry-user and --registry-password-stdin go together")
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise click.UsageError("--registry-password-stdin: standard input is empty")
    return {"username": user, "password": password}


def read_assignments(assignments: Sequence[str], *, from_own_environment: bool) -> dict[str, str]:
    """`K=V`, and `K` alone for the value of the own environment where that is allowed. Values are never repeated."""
    variables: dict[str, str] = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if equals:
            variables[name] = value
        elif not from_own_environment:
            raise click.UsageError(f"{name!r} has no value: write {name}=VALUE")
        elif name in os.environ:
            variables[name] = os.environ[name]
        else:
            raise click.UsageError(f"-e {name}: your environment has no variable of that name; write {name}=VALUE")
    return variables


def reset_option(resettable: Mapping[str, str]) -> Callable[[Any], Any]:
    """--reset, with the names of options as its choices; see `with_reset`."""
    return click.option(
        "--reset", multiple=True, type=click.Choice([*resettable]), help="Back to the default; may be repeated."
    )


def with_reset(changes: Mapping[str, Any], reset: Sequence[str], resettable: Mapping[str, str]) -> dict[str, Any]:
    """The changes, with null for the fields to reset. Raises a usage error when one is changed as well."""
    for name in reset:
        if resettable[name] in changes:
            raise click.UsageError(f"give either --reset {name} or what sets it, not both")
    return dict(changes) | {resettable[name]: None for name in reset}


def variable_options(command: Any) -> Any:
    """-e and --env-file; see `read_variables`."""
    command = click.option(
        "--env-file", multiple=True, metavar="FILE", help="Variables from a .env file; - is standard input."
    )(command)
    return click.option(
        "-e", "--env", "assignments", multiple=True, metavar="K[=V]", help="Variable; `-e K` takes your own value."
    )(command)


def read_variables(assignments: Sequence[str], files: Sequence[str]) -> dict[str, str]:
    """Of -e and --env-file; single ones win over files."""
    variables: dict[str, str] = {}
    for file in files:
        variables.update(read_env_file(file))
    return variables | read_assignments(assignments, from_own_environment=True)


class WithExample(click.ParamType[str]):
    """Any text; who leaves it out is told what one looks like."""

    name = "text"

    def __init__(self, example: str) -> None:
        self._example = example

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:
        return f"Write for example {self._example}"


SCHEDULE = WithExample('--schedule "30 2 * * MON-FRI"')
IMAGE = WithExample("--image registry.example.com/shop/web:42")


class GroupChoice(click.ParamType[tuple[str, int | None]]):
    """`db-migrate`, or `db-migrate:2` to set its limit, too."""

    name = "name[:limit]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, int | None]:
        if isinstance(value, tuple):
            return value
        name, colon, limit = value.partition(":")
        if colon and not (limit.isascii() and limit.isdigit()):
            self.fail(f"{value!r}: write a name, or a name and a limit such as db-migrate:1", param, ctx)
        return name, int(limit) if colon else None


group_option = click.option(
    "--group",
    type=GroupChoice(),
    help="Concurrency group: at most so many of its runs at once (1 until a limit is given).",
)


def time_options(command: Any) -> Any:
    """--end-by and --warn; what the API takes as `must_end_by` and `warn_seconds`."""
    command = click.option(
        "--warn", type=Duration(), metavar="10m", help="Record an event so long before the end of its time."
    )(command)
    return click.option(
        "--end-by", metavar="TIME", help='End it by a time of day: "08:00 Europe/Berlin"; UTC without a zone.'
    )(command)


def set_group(session: Session, group: tuple[str, int | None] | None) -> str | None:
    """The group's name, for a body; its limit is set when one was given."""
    if group is None:
        return None
    name, limit = group
    if limit is not None:
        session.client.call("PUT", f"/concurrency-groups/{quote(name, safe='')}", body={"limit": limit})
    return name


def retry_options(command: Any) -> Any:
    """See `read_retries`."""
    for option in (
        click.option(
            "--retry-on", type=int, multiple=True, metavar="CODE", help="Retry only ends with this exit code."
        ),
        click.option(
            "--retry-back-off",
            type=click.Choice(["exponential", "fixed"]),
            help="Whether the delay doubles each time. [default: exponential]",
        ),
        click.option("--retry-delay", type=Duration(), metavar="10s", help="Back-off before the first retry."),
        click.option("--retries", type=click.IntRange(0), metavar="N", help="Try again so often when it fails."),
    ):
        command = option(command)
    return command


def read_retries(given: Mapping[str, Any]) -> dict[str, Any] | None:
    """What the API takes as `retries`; None when nothing was given."""
    if given["retries"] is None:
        if given["retry_delay"] is not None or given["retry_on"] or given["retry_back_off"]:
            raise click.UsageError("--retry-delay, --retry-back-off and --retry-on need --retries N")
        return None
    retries: dict[str, Any] = {"count": given["retries"]}
    if given["retry_delay"] is not None:
        retries |= {"delay_seconds": given["retry_delay"], "most_delay_seconds": max(given["retry_delay"], 3600)}
    if given["retry_back_off"]:
        retries["back_off"] = given["retry_back_off"]
    if given["retry_on"]:
        retries["exit_codes"] = list(given["retry_on"])
    return retries


def read_env_file(name: str) -> dict[str, str]:
    """Variables of a .env file; `-` is standard input."""
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        return parse_dotenv(raw.decode(), "standard input" if name == "-" else name)
    except OSError as problem:
        raise CliError(f"{name} cannot be read: {problem.strerror}") from problem
    except UnicodeDecodeError as problem:
        line = raw[: problem.start].count(b"\n") + 1
        raise CliError(f"{name}, line {line}: this is not UTF-8; variables are text") from problem
