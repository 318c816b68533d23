"""Writes docs/cli.md from the tree of commands: `python -m oneoff.cli.reference docs/cli.md`.

A test fails when the page is stale.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from oneoff.cli.main import cli

_INTRODUCTION = """\
# The command line

This page is generated from the commands themselves: `python -m oneoff.cli.reference docs/cli.md` writes it.

## Which server, which token

The address is the first of: `--url`, `ONEOFF_URL`, the server of `oneoff login`, the server running on this machine
(it writes `/run/oneoff/server.json`, or `$XDG_RUNTIME_DIR/oneoff/server.json`), `http://127.0.0.1:8080`. The token is
the first of: `--token-file`, `ONEOFF_TOKEN`, the token `oneoff login` remembered for that address, the local server's
`admin-token`. A remembered token is never sent to another address.

Tab completion: `eval "$(_ONEOFF_COMPLETE=bash_source oneoff)"` in `~/.bashrc`; zsh_source and fish_source likewise.

## Exit codes

`run`, `attach`, `wait`, and `logs --follow` of a run that ends meanwhile:

| code | meaning |
|---|---|
| the command's | it ended by itself |
| 124 | it timed out |
| 125 | Oneoff or the engine failed, or refused: not the command. Also `lost`, and an image that cannot be had |
| 126, 127 | the command is not executable, or not found, in the image |
| 128+n | it was killed by signal n; 137 also when it was out of memory |
| 130 | it was canceled |
| 2 | the command line itself is wrong, and nothing was started |

Every other command exits 0, 1 when the server refused or could not be reached, 2 when the command line is wrong.
`batch create`, `rerun-failed`, `attach` and `wait` exit 0 when all items succeeded, 1 when some failed, 130 when the
batch was canceled, 125 when Oneoff failed or refused. `deploy` exits 0 when the image is live and 1 when the old one
stays. `doctor` exits 1 when something is a problem.

## Streams, signals, lost connections

- The command's stdout goes to stdout and its stderr to stderr, byte for byte. Oneoff's own words go to stderr only;
  `--quiet` hides progress. Bytes that the server did not keep are told there with their number.
- With `--json`, stdout holds exactly one document of the API. `run --json` and `attach --json` print the ended Run; the
  command's output goes to stderr then.
- Ctrl-C or TERM to `run` cancels the run, waits for its end and exits 130; if the command had ended by itself before
  the cancel arrived, its own code counts. A second one leaves the run going and says how to attach. In `attach`,
  `wait` and `logs` both only leave, with 130 or 143. HUP always only leaves.
- `batch create` and `rerun-failed` do the same with all of the batch; `batch attach` and `batch wait` only leave.
- A lost connection loses nothing: the stream goes on behind the last byte that was read, for as long as it takes the
  server to come back. Making the run is safe too: a request whose answer was lost is sent again under the same
  `Idempotency-Key`, for a minute.
- When the reader of stdout goes away (`oneoff run … | head`), `run` and `attach` drop the rest, wait for the end, and
  exit with the command's code, as the run is not about its reader. `logs` and lists stop, with 141.

## .env files

`KEY=value` or `export KEY=value` on each line, and comments. Single quotes keep what is between them as it is; double
quotes know `\\n`, `\\t`, `\\r`, `\\"`, `\\\\` and `\\$`; both may go over several lines. Nothing is interpolated.
"""


def reference() -> str:
    """The whole page."""
    return "\n".join([_INTRODUCTION, *_commands()])


def _commands() -> Iterator[str]:
    root = click.Context(cli, info_name="oneoff")
    yield _section(root, 2)
    for name in cli.list_commands(root):
        command = cli.get_command(root, name)
        assert command is not None
        context = click.Context(command, info_name=name, parent=root)
        yield _section(context, 2)
        if isinstance(command, click.Group):
            for inner, each in command.commands.items():
                yield _section(click.Context(each, info_name=inner, parent=context), 3)


def _section(context: click.Context, level: int) -> str:
    command = context.command
    usage = f"{context.command_path} {' '.join(command.collect_usage_pieces(context))}"
    lines = [f"{'#' * level} {context.command_path}", "", f"    {usage}", ""]
    if command.help:
        lines += [inspect.cleandoc(command.help), ""]
    records = [param.get_help_record(context) for param in command.get_params(context)]
    shown = [record for record in records if record and record[0].startswith("-") and "--help" not in record[0]]
    if shown:
        lines += ["| option | |", "|---|---|"]
        lines += [f"| `{_cell(option)}` | {_cell(text)} |" for option, text in shown]
        lines.append("")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(reference())
