"""docs/cli.md is what the commands say of themselves, and `oneoff --help` says the same as each command."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from oneoff.cli.exit_codes import USAGE
from oneoff.cli.main import cli, main
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


def test_what_is_mistyped_at_any_level_is_told_with_the_near_one(capsys: pytest.CaptureFixture[str]) -> None:
    places = [click.Context(cli, info_name="oneoff")]
    for context in places:
        within = context.command
        names = within.list_commands(context) if isinstance(within, click.Group) else []
        options = [max(each.opts, key=len) for each in within.get_params(context) if isinstance(each, click.Option)]
        for right in [*names, *options]:
            words = [*context.command_path.split()[1:], right + right[-1]]
            assert main(words) == USAGE, words
            told = capsys.readouterr().err
            assert f"No such {'option' if right in options else 'command'} '{right + right[-1]}'." in told
            assert "Did you mean" in told
            assert f"'{right}'" in told
        for name in names:
            inner = within.get_command(context, name)  # type: ignore[attr-defined]
            places.append(click.Context(inner, info_name=name, parent=context))


def test_a_group_without_a_command_is_a_usage_error_that_shows_its_help(
    capsys: pytest.CaptureFixture[str],
) -> None:
    context = click.Context(cli)
    groups = [name for name in cli.list_commands(context) if isinstance(cli.get_command(context, name), click.Group)]
    assert {"job", "plan"} <= set(groups)
    for words in ([], *([name] for name in groups)):
        assert main(words) == USAGE, words
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith(" ".join(["Usage: oneoff", *words]))
