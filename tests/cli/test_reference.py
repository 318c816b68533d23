"""docs/cli.md is what the commands say of themselves, and `oneoff --help` says the same as each command."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from oneoff.cli.main import cli
from oneoff.cli.reference import reference

_PAGE = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_not_stale() -> None:
    assert _PAGE.read_text() == reference(), "run: python -m oneoff.cli.reference docs/cli.md"


@pytest.mark.parametrize("name", cli.list_commands(click.Context(cli)))
def test_the_list_of_commands_says_what_the_command_says(name: str) -> None:
    context = click.Context(cli)
    command = cli.get_command(context, name)
    assert command is not None
    assert command.name == name
    assert command.short_help == cli.summaries()[name]  # type: ignore[attr-defined]


def test_every_option_is_explained() -> None:
    silent = []
    for name in cli.list_commands(click.Context(cli)):
        command = cli.get_command(click.Context(cli), name)
        group = command.commands.values() if isinstance(command, click.Group) else [command]
        for each in group:
            assert each is not None
            silent += [
                f"{name} {option.opts[0]}"
                for option in each.params
                if isinstance(option, click.Option) and not option.help and option.opts[0] != "--type"
            ]
    assert not silent
