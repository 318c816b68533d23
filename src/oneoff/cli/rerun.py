"""`oneoff rerun`: the very same run once more, with what differs from now."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import click

from oneoff.cli.ids import Id
from oneoff.cli.results import json_option
from oneoff.cli.running import Style, start
from oneoff.cli.session import Session, pass_session
from oneoff.cli.streams import Narrator

if TYPE_CHECKING:
    from oneoff.cli.client import Answer

_DIGEST_SHOWN = len("sha256:") + 12


@click.command(short_help="Run the very same once more, and wait for it.")
@click.argument("run_id", metavar="RUN", type=Id("run"))
@click.option("-d", "--detach", is_flag=True, help="Print the new run's id and do not wait.")
@click.option("-q", "--quiet", is_flag=True, help="No progress on stderr, and no differences.")
@json_option
@pass_session
def rerun(session: Session, /, run_id: str, detach: bool, quiet: bool, as_json: bool) -> int:
    """Run what RUN ran once more: the same image by digest, command, variables and size, whatever was deployed or
    configured since. What differs from now is told on stderr. Waits and exits as `oneoff run` does."""
    narrator = Narrator(quiet=quiet)

    def create(is_wanted: Callable[[], bool]) -> Answer | None:
        if not is_wanted():
            return None
        answer = session.client.create(f"/runs/{run_id}/rerun", None)
        for line in describe_difference(answer.value["difference"]):
            narrator.progress(line)
        return answer

    return start(session, create, Style("", detach, quiet, as_json))


def describe_difference(difference: Mapping[str, Any]) -> Iterator[str]:
    """A line for each thing that is not as a new run would have it."""
    for field, word in (("digest", "image"), ("command", "command"), ("instance_type", "instance type")):
        if (pair := difference[field]) is not None:
            then, now = pair["then"], pair["now"] or "none"
            if field == "digest":
                then, now = then[:_DIGEST_SHOWN], now[:_DIGEST_SHOWN]
            yield f"differs from now: {word} {then} (now {now})"
    variables = difference["variables"]
    for field, words in (
        ("changed", "variables with another value now"),
        ("only_then", "variables that only this run has"),
        ("only_now", "variables that were not there then"),
    ):
        if variables[field]:
            yield f"differs from now: {words}: {', '.join(variables[field])}"
