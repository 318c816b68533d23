"""The runs of a batch's items: how what they share and what each has for itself is kept, sealed, and how a run is made
of both. Used by the operations that make batches, and handed to the batcher by `oneoff.server`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from oneoff.core.batch import Batch, to_item_run
from oneoff.core.command import Command
from oneoff.core.job import with_arguments
from oneoff.core.run import Run
from oneoff.core.variables import Variable
from oneoff.engine.spec import variables_place
from oneoff.operations.context import Context
from oneoff.operations.room import check_room
from oneoff.sealing import Sealer
from oneoff.store import batches
from oneoff.store.batches import SealedItem
from oneoff.store.dialect import Connection

_MOST_KNOWN = 16  # batches whose shared variables are remembered


@dataclass(frozen=True, slots=True)
class Shared:
    """What all items get, as configured when the batch was created."""

    variables: Mapping[str, str] = field(repr=False)
    secret: frozenset[str]
    builtins: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Item:
    """`rerun_of` is the run that failed for it in the batch before."""

    arguments: tuple[str, ...] = ()
    variables: Mapping[str, Variable] = field(default_factory=dict)
    rerun_of: str | None = None


class ItemRuns:
    """Makes the runs that enter the queue. What a batch shares never changes, so it is opened once."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._known: dict[str, Shared] = {}

    def make(self, connection: Connection, batch: Batch, items: Sequence[SealedItem]) -> list[tuple[Run, bytes]]:
        """Not saved yet, each with its sealed variables. Raises DiskFull, WrongSecretKey."""
        check_room(self._context.settings, self._context.clock)
        if (shared := self._known.get(batch.id)) is None:
            shared = open_shared(self._context.sealer, batch.id, batches.fetch_request(connection, batch.id))
            while len(self._known) >= _MOST_KNOWN:
                del self._known[next(iter(self._known))]
            self._known[batch.id] = shared
        return [self._make_one(batch, shared, each) for each in items]

    def _make_one(self, batch: Batch, shared: Shared, sealed: SealedItem) -> tuple[Run, bytes]:
        context = self._context
        item = open_item(context.sealer, batch.id, sealed)
        command = with_arguments(Command(batch.template.command, batch.template.shell), item.arguments)
        run = to_item_run(
            batch,
            id=context.new_id("run"),
            batch_index=sealed.index,
            created_at=context.clock.now(),
            command=command.argv,
            shell=command.shell,
            rerun_of=item.rerun_of,
        )
        told = {"ONEOFF_BATCH_INDEX": str(sealed.index), "ONEOFF_BATCH_COUNT": str(batch.index_count)}
        own = item.variables
        plain = {
            "variables": {**shared.variables, **{name: each.value for name, each in own.items()}},
            "secret": sorted((shared.secret - own.keys()) | {name for name, each in own.items() if each.secret}),
            "builtins": {**shared.builtins, **told},
        }
        return run, context.sealer.seal(json.dumps(plain).encode(), variables_place(run.id))


def seal_shared(sealer: Sealer, batch_id: str, shared: Shared) -> bytes:
    plain = {
        "variables": dict(shared.variables),
        "secret": sorted(shared.secret),
        "builtins": dict(shared.builtins),
    }
    return sealer.seal(json.dumps(plain).encode(), _request_place(batch_id))


def open_shared(sealer: Sealer, batch_id: str, box: bytes) -> Shared:
    return _to_shared(json.loads(sealer.open(box, _request_place(batch_id))))


def shared_of_run(sealer: Sealer, run_id: str, box: bytes) -> Shared:
    """Of the sealed variables of a run that was made and not saved."""
    return _to_shared(json.loads(sealer.open(box, variables_place(run_id))))


def seal_item(sealer: Sealer, batch_id: str, index: int, item: Item) -> SealedItem:
    plain: dict[str, Any] = {"arguments": item.arguments}
    if item.variables:
        plain["variables"] = {name: [each.value, each.secret] for name, each in item.variables.items()}
    if item.rerun_of is not None:
        plain["rerun_of"] = item.rerun_of
    return SealedItem(index, sealer.seal(json.dumps(plain).encode(), _item_place(batch_id, index)))


def open_item(sealer: Sealer, batch_id: str, sealed: SealedItem) -> Item:
    plain = json.loads(sealer.open(sealed.item_sealed, _item_place(batch_id, sealed.index)))
    variables = {name: Variable(*each) for name, each in plain.get("variables", {}).items()}
    return Item(tuple(plain["arguments"]), variables, plain.get("rerun_of"))


def _to_shared(plain: Mapping[str, Any]) -> Shared:
    return Shared(plain["variables"], frozenset(plain["secret"]), plain.get("builtins", {}))


def _request_place(batch_id: str) -> str:
    return f"batches/{batch_id}/request"


def _item_place(batch_id: str, index: int) -> str:
    return f"batches/{batch_id}/items/{index}"
