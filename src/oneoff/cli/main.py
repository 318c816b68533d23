"""The command `oneoff`: its tree of commands, and the one place that prints errors and exits.

Commands live in their own modules and are imported when they are named, so that `oneoff --help` starts fast.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from oneoff import __version__
from oneoff.cli.exit_codes import USAGE
from oneoff.cli.problems import CliError, Interrupted
from oneoff.cli.session import Session
from oneoff.errors import OneoffError

_BROKEN_PIPE = 141  # 128 + SIGPIPE, as other Unix programs end when their reader goes away
_COMMANDS = {
    "run": ("running:run", "Run a command in a service's live image, and wait for it."),
    "attach": ("running:attach", "Follow a run from its first byte to its end."),
    "wait": ("running:wait", "Wait for the end of a run, without its output."),
    "logs": ("logs:logs", "Print the output of a run."),
    "cancel": ("cancel:cancel", "End runs."),
    "extend": ("extend:extend", "Give a going run more time."),
    "rerun": ("rerun:rerun", "Run the very same once more, and wait for it."),
    "runs": ("runs:runs", "The history of runs."),
    "job": ("job:job", "Saved jobs: commands with a name."),
    "apply": ("apply:apply", "Make and change jobs and crons from a file."),
    "batch": ("batch:batch", "Batches: one command with many arguments."),
    "cron": ("cron:cron", "Crons: jobs that run by the clock."),
    "group": ("groups:group", "Concurrency groups: how many runs at once."),
    "events": ("events:events", "What happened, and what happens from now on."),
    "webhook": ("webhooks:webhook", "Webhooks: programs, chats and mail that are told what happens."),
    "deploy": ("deploy:deploy", "Make an image the live image of a service."),
    "deploys": ("deploys:deploys", "The history of deploys."),
    "service": ("services:service", "Services: what commands run in."),
    "env": ("variables:env", "Variables of environments and services."),
    "log-stream": ("log_stream:log_stream", "Where the output of runs is sent: syslog, OpenTelemetry."),
    "project": ("places:project", "Projects and their environments."),
    "instance-types": ("places:instance_types", "CPU, memory and price a run can have."),
    "nodes": ("places:nodes", "Machines that run containers, and their slots."),
    "plan": ("plan:plan", "What the workspace may do."),
    "usage": ("usage:usage", "What runs have used, and what they cost."),
    "token": ("tokens:token", "API tokens."),
    "login": ("login:login", "Remember a server and a token for it."),
    "serve": ("serve:serve", "Run the server."),
    "doctor": ("doctor:doctor", "Check this machine, and say how to mend it."),
    "demo": ("demo:demo", "Show Oneoff at work on a small image."),
}


class _ReaderGone(Exception):
    """Our stdout's reader went away; not an OSError, for which click would exit by itself."""


class _Tree(click.Group):
    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError as problem:
            raise _ReaderGone from problem

    def summaries(self) -> dict[str, str]:
        """What the help says of each command, without importing it."""
        return {name: text for name, (_, text) in _COMMANDS.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.NoSuchCommand as problem:  # click looks for near ones among commands that are imported already
            raise click.NoSuchCommand(problem.command_name, possibilities=_COMMANDS, ctx=ctx) from None

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, _, name = _COMMANDS[cmd_name][0].partition(":")
        command: click.Command = getattr(importlib.import_module(f"oneoff.cli.{module}"), name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(self.summaries().items()))


@click.command(
    cls=_Tree,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="Exit codes of run, attach and wait: the command's own; 124 timed out; 125 Oneoff failed, not the command; "
    "126 not executable; 127 not found; 128+n killed by signal n; 130 canceled.",
)
@click.option("--url", metavar="URL", help="The server's address; else ONEOFF_URL, login, the local server.")
@click.option(
    "--token-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the API token; else ONEOFF_TOKEN, login, the local server's.",
)
@click.option("--debug", is_flag=True, help="Print tracebacks of errors.")
@click.version_option(__version__, prog_name="oneoff", message="%(prog)s %(version)s")
@click.pass_context
def cli(ctx: click.Context, url: str | None, token_file: Path | None, debug: bool) -> None:
    """Run one-off and scheduled commands inside your app's deployed image."""
    session: Session = ctx.obj
    session.url, session.token_file, session.debug = url, token_file, debug


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code. Everything that went wrong has been printed then."""
    _fill_closed_streams()
    session = Session()
    code = _invoke(session, arguments)
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _quiet_stdout()
        return code or _BROKEN_PIPE
    return code


def _invoke(session: Session, arguments: Sequence[str] | None) -> int:
    try:
        result = cli.main(arguments, prog_name="oneoff", standalone_mode=False, obj=session)
        return result if isinstance(result, int) else 0
    except click.UsageError as problem:
        problem.show()
        return USAGE
    except click.Abort:
        print("interrupted", file=sys.stderr)
        return 130
    except Interrupted as leaving:
        return leaving.exit_code
    except KeyboardInterrupt:
        return 130
    except _ReaderGone:
        _quiet_stdout()
        return _BROKEN_PIPE
    except (CliError, OneoffError, click.ClickException, OSError) as problem:
        if session.debug:
            raise
        _print_error(problem)
        return session.failure_code
    except Exception as problem:  # a defect of ours: told in one line all the same, as a script may read it
        if session.debug or session.is_server:
            raise
        print(f"error: unexpected {type(problem).__name__}: {problem}; --debug shows where", file=sys.stderr)
        return session.failure_code


def _fill_closed_streams() -> None:
    """A caller may have closed them (`>&-`); Python has None then, and a socket would take the free number."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for as long as the process lives


def _print_error(problem: Exception) -> None:
    words = problem.format_message() if isinstance(problem, click.ClickException) else str(problem)
    print(f"error: {words}", file=sys.stderr)


def _quiet_stdout() -> None:
    from oneoff.cli.streams import discard

    discard(sys.stdout.buffer)


if __name__ == "__main__":
    sys.exit(main())
