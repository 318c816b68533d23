"""Starts a batch, or takes one up, and sees it to its end. Used by the commands of `oneoff batch` that wait."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from oneoff.cli.canceling import Canceller
from oneoff.cli.exit_codes import CANCELED, PLATFORM_FAILED
from oneoff.cli.problems import Interrupted
from oneoff.cli.results import print_json
from oneoff.cli.session import Session
from oneoff.cli.signals import interrupts
from oneoff.cli.streams import Narrator

if TYPE_CHECKING:
    from oneoff.cli.client import Answer

_SOME_FAILED = 1


def start_batch(
    session: Session, create_batch: Callable[[Callable[[], bool]], Answer | None], *, detach: bool, quiet: bool,
    as_json: bool,
) -> int:  # fmt: skip
    """Create a batch and see it to its end. `create_batch` gives up, with None, when it is not wanted any more. Returns
    the exit code."""
    session.failure_code = PLATFORM_FAILED
    narrator = Narrator(quiet=quiet)
    if detach:
        answer = create_batch(lambda: True)
        assert answer is not None
        print_json(answer.text) if as_json else click.echo(answer.value["id"])
        return 0
    canceller = Canceller(session, narrator, "batch")
    try:
        with interrupts(canceller.request):
            if (answer := create_batch(lambda: not canceller.requested)) is None:
                return CANCELED
            made = answer.value
            canceller.know(made["id"])
            narrator.progress(f"{made['id']} of {made['item_count']} items, {made['max_parallel']} at a time")
            return follow_batch(session, made["id"], narrator, as_json)
    except Interrupted as leaving:
        if canceller.known_id is None:
            narrator.warn("left before the server had answered; `oneoff batch list` shows whether the batch was made")
        else:
            goes_on = canceller.known_id
            narrator.warn(
                f"{goes_on} goes on; see it with `oneoff batch attach {goes_on}`, end it with "
                f"`oneoff batch cancel {goes_on}`"
            )
        return CANCELED if canceller.requested else leaving.exit_code


def follow_batch(session: Session, batch_id: str, narrator: Narrator, as_json: bool, *, is_silent: bool = False) -> int:
    """To its end, or until a signal raises Interrupted. Returns the exit code."""
    from oneoff.cli.batch_progress import Follower, Progress, describe_end

    progress = Progress(Narrator(quiet=True) if is_silent else narrator, is_quiet=is_silent or narrator.quiet)
    try:
        answer = Follower(session.client, batch_id, progress).follow()
    finally:
        progress.clear()
    ended = answer.value
    narrator.progress(f"{batch_id} {describe_end(ended)}")
    if ended["counts"]["failed"]:
        narrator.progress(f"run the failed items again with `oneoff batch rerun-failed {batch_id}`")
    if as_json:
        print_json(answer.text)
    return {"succeeded": 0, "canceled": CANCELED}.get(ended["status"], _SOME_FAILED)
