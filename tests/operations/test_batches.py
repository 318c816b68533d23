"""Batches as callers make, cancel and repeat them, on both databases. What makes their items go: tests/engine."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import delete

from oneoff.core.batch import Batch, BatchStatus, ItemStatus
from oneoff.core.command import Command
from oneoff.core.outcome import Outcome
from oneoff.core.run import Reason, Run, RunStatus, Trigger
from oneoff.core.service import ServicePath
from oneoff.engine.batching import Advance, advance
from oneoff.engine.spec import variables_place
from oneoff.errors import (
    BatchGoing,
    DiskFull,
    IdempotencyKeyReused,
    InvalidBatch,
    InvalidItem,
    NoLiveImage,
    NotFound,
    NothingToRerun,
    ServiceBusy,
)
from oneoff.operations import batches, variables
from oneoff.operations.batch_reruns import Rerun, rerun_failed
from oneoff.operations.batch_runs import ItemRuns
from oneoff.operations.batches import BatchFilter, NewBatch, NewItem, of_job, of_service
from oneoff.operations.deploys import create_deploy
from oneoff.operations.jobs import NewJob, Overrides, create_job, delete_job
from oneoff.operations.runs import RunRequest
from oneoff.operations.services import delete_service
from oneoff.operations.variables import VariableChange
from oneoff.store import batches as rows
from oneoff.store import runs, services, tables
from oneoff.store.idempotency import Idempotency
from oneoff.store.runs import End, RunFilter
from tests.operations.home import DIGEST, NEXT_DIGEST, NEXT_IMAGE, Home

pytestmark = pytest.mark.anyio
WORK = RunRequest(Command(("work",)), timeout_seconds=60)


async def create(home: Home, *items: NewItem, request: RunRequest = WORK, **more: Any) -> Batch:
    """Of shop/production, which is made with the first one."""
    path = ServicePath("shop", "production", "web")
    found = await home.context.database.read(lambda c: services.find_by_path(c, home.context.workspace_id, path))
    service_id = (found or await home.add_service()).id
    made = await batches.create_batch(home.context, of_service(service_id, request), NewBatch(items, **more), "tester")
    return made.batch


def items(*arguments: str) -> tuple[NewItem, ...]:
    return tuple(NewItem((each,)) for each in arguments)


async def go_on(home: Home, batch_id: str, item_runs: ItemRuns | None = None) -> Advance:
    make = (item_runs or ItemRuns(home.context)).make
    return await home.context.database.run(lambda c: advance(home.context, c, batch_id, make))


async def runs_of(home: Home, batch_id: str) -> list[Run]:
    wanted = RunFilter(batch_id=batch_id)
    found = await home.context.database.read(lambda c: runs.list_runs(c, wanted, 1000, None))
    return sorted(found, key=lambda run: (run.batch_index or 0, run.attempt))


async def end(home: Home, run: Run, status: RunStatus = RunStatus.SUCCEEDED) -> None:
    reason = {RunStatus.SUCCEEDED: Reason.COMPLETED, RunStatus.FAILED: Reason.NONZERO_EXIT}[status]
    await home.start(run.id)
    ended = End(Outcome(status, reason, 0 if status is RunStatus.SUCCEEDED else 1), home.context.clock.now())
    assert await home.context.database.run(lambda c: runs.end_if_leased(c, run.id, "this-server", ended))


async def given_to(home: Home, run: Run) -> Mapping[str, Any]:
    box = await home.context.database.read(lambda c: runs.fetch_sealed_variables(c, run.id))
    opened: Mapping[str, Any] = json.loads(home.context.sealer.open(box, variables_place(run.id)))
    return opened


async def test_runs_of_items_have_what_all_share_and_what_is_their_own(home: Home) -> None:
    service = await home.add_service()
    secret = {"TOKEN": VariableChange("s", True), "A": VariableChange("1")}
    await variables.replace_variables(home.context, service.id, secret)
    own = NewItem(("x y",), {"A": VariableChange("2"), "B": VariableChange("3"), "TOKEN": VariableChange("t")})
    batch = await create(home, own, NewItem(), request=replace(WORK, variables={"C": VariableChange("4")}))
    assert (batch.status, batch.progress.waiting, batch.template.digest) == (BatchStatus.RUNNING, 2, DIGEST)
    # What is configured or deployed afterwards is for later batches.
    await variables.replace_variables(home.context, service.id, {"A": VariableChange("changed")})
    await create_deploy(home.context, service.id, NEXT_IMAGE, "tester")
    await go_on(home, batch.id)
    first, second = await runs_of(home, batch.id)
    assert (first.command, first.trigger, first.batch_index, first.actor) == (
        ("work", "x y"), Trigger.BATCH, 0, "tester",
    )  # fmt: skip
    assert (second.command, second.batch_index, second.digest, second.timeout_seconds) == (("work",), 1, DIGEST, 60)
    told = await given_to(home, first)
    assert told["variables"] == {"A": "2", "B": "3", "C": "4", "TOKEN": "t"}
    assert told["secret"] == ["TOKEN"]
    assert told["builtins"] == {"ONEOFF_BATCH_INDEX": "0", "ONEOFF_BATCH_COUNT": "2"}
    assert (await given_to(home, second))["variables"] == {"A": "1", "C": "4", "TOKEN": "s"}


async def test_a_batch_of_a_job_is_as_the_job_was_then(home: Home) -> None:
    service = await home.add_service()
    await variables.replace_variables(home.context, service.id, {n: VariableChange("0", True) for n in "JOI"})
    settings = {"shell": "work", "timeout_seconds": 30, "variables": {"J": VariableChange("1")}}
    job = await create_job(home.context, NewJob(service.id, "seed", settings))
    overrides = Overrides(("--all",), {"O": VariableChange("2")})
    ask = of_job(home.context, job.id, overrides)
    item = NewItem(("a b",), {"I": VariableChange("3")})
    made = await batches.create_batch(home.context, ask, NewBatch([item]), "tester")
    await delete_job(home.context, job.id)
    await go_on(home, made.batch.id)
    (run,) = await runs_of(home, made.batch.id)
    assert (run.shell, run.job_id, run.timeout_seconds) == ("work --all 'a b'", job.id, 30)
    told = await given_to(home, run)
    assert (told["variables"], sorted(told["secret"])) == ({"J": "1", "O": "2", "I": "3"}, ["I", "J", "O"])
    assert told["builtins"]["ONEOFF_JOB"] == "seed"
    listed = await batches.list_batches(home.context, BatchFilter(job_id=job.id), 10, None)
    assert [each.batch.id for each in listed] == [made.batch.id]


WRONG: list[tuple[NewItem, str]] = [
    (NewItem(("nul\0",)), "NUL"),
    (NewItem(("x" * 131_072,)), "131071"),
    (NewItem(("x" * 120_000,) * 9), "in all, the limit is 1000000"),
    (NewItem((), {"1A": VariableChange("x")}), "cannot name a variable"),
    (NewItem((), {"ONEOFF_X": VariableChange("x")}), "reserved"),
    (NewItem((), {"A": VariableChange("x" * 131_072)}), "131071"),
    (NewItem((), {"A": VariableChange(None)}), "no value"),
    (NewItem((), {f"A{n}": VariableChange("x" * 120_000) for n in range(9)}), "in all"),
]


async def test_an_item_that_is_wrong_is_told_by_its_number_and_nothing_is_saved(home: Home) -> None:
    for wrong, words in WRONG:
        with pytest.raises(InvalidItem, match=r"^item 1 \(counted from 0\): .*1 more items") as told:
            await create(home, NewItem(("a",)), wrong, NewItem(("b",)), wrong)
        assert words in str(told.value)
        assert told.value.field == "items.1"
    assert not await batches.list_batches(home.context, BatchFilter(), 10, None)


async def test_what_no_batch_can_be_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidBatch):
        await create(home)
    with pytest.raises(NotFound):
        of_service("srv-\0", WORK)
    gone = of_service("srv-" + "0" * 20, WORK)
    with pytest.raises(NotFound):
        await batches.create_batch(home.context, gone, NewBatch(items("a")), "tester")
    empty = await home.add_service("shop/production/empty", image=None)
    with pytest.raises(NoLiveImage):
        await batches.create_batch(home.context, of_service(empty.id, WORK), NewBatch(items("a")), "tester")


async def test_the_same_request_makes_one_batch(home: Home) -> None:
    service = await home.add_service()
    ask, new = of_service(service.id, WORK), NewBatch(items("a"))
    key = Idempotency("tok-1", "key", "a" * 64)
    made = await batches.create_batch(home.context, ask, new, "tester", key)
    again = await batches.create_batch(home.context, ask, new, "tester", key)
    assert again.batch == made.batch
    gone = of_service("srv-" + "0" * 20, WORK)  # also when it could not be made any more
    assert (await batches.create_batch(home.context, gone, new, "tester", key)).batch == made.batch
    with pytest.raises(IdempotencyKeyReused):
        await batches.create_batch(home.context, ask, new, "tester", replace(key, request_sha256="b" * 64))


async def test_a_full_disk_lets_items_wait(home: Home) -> None:
    batch = await create(home, *items("a"))
    settings = replace(home.context.settings, disk_reserve_bytes=1 << 62)
    full = ItemRuns(replace(home.context, settings=settings))
    done = await go_on(home, batch.id, full)
    assert isinstance(done.disk_full, DiskFull)
    assert not await runs_of(home, batch.id)
    assert (await go_on(home, batch.id)).accepted == 1


async def test_failed_and_stopped_items_run_again_as_they_were(home: Home) -> None:
    batch = await create(home, *items("a", "b", "c", "d"), max_parallel=2, stop_on_failure=True)
    with pytest.raises(BatchGoing):
        await rerun_failed(home.context, batch.id, Rerun("another"))
    await go_on(home, batch.id)
    first, second = await runs_of(home, batch.id)
    await end(home, first)
    await end(home, second, RunStatus.FAILED)
    ended = (await go_on(home, batch.id)).batch
    assert (ended.status, ended.progress.canceled, ended.stopped_index) == (BatchStatus.FAILED, 2, 1)
    await create_deploy(home.context, batch.service_id, NEXT_IMAGE, "tester")
    again = (await rerun_failed(home.context, batch.id, Rerun("another"))).batch
    assert (again.rerun_of, again.actor, again.progress.items, again.index_count) == (batch.id, "another", 3, 4)
    assert again.template == batch.template
    await go_on(home, again.id)
    made = await runs_of(home, again.id)
    assert [(run.batch_index, run.command, run.rerun_of) for run in made] == [
        (1, ("work", "b"), second.id), (2, ("work", "c"), None),
    ]  # fmt: skip
    assert (await given_to(home, made[0]))["builtins"]["ONEOFF_BATCH_COUNT"] == "4"
    live = (await rerun_failed(home.context, batch.id, Rerun("another", use_live_image=True))).batch
    assert live.template.digest == NEXT_DIGEST


async def test_what_was_canceled_runs_again_only_when_it_is_asked_for(home: Home) -> None:
    batch = await create(home, *items("a", "b", "c"), max_parallel=1)
    await go_on(home, batch.id)
    await end(home, (await runs_of(home, batch.id))[0])
    await go_on(home, batch.id)
    view = await batches.cancel_batch(home.context, batch.id, "somebody")
    assert (view.batch.status, view.batch.progress.canceled) == (BatchStatus.CANCELED, 2)
    with pytest.raises(NothingToRerun, match="with-canceled"):
        await rerun_failed(home.context, batch.id, Rerun("another"))
    again = await rerun_failed(home.context, batch.id, Rerun("another", with_canceled=True))
    assert again.batch.progress.items == 2


async def test_going_items_are_counted_and_listed_by_what_their_runs_do(home: Home) -> None:
    batch = await create(home, *items("a", "b", "c"), max_parallel=2)
    await go_on(home, batch.id)
    await home.start((await runs_of(home, batch.id))[0].id)
    view = await batches.get_batch(home.context, batch.id)
    assert (view.queued, view.batch.progress.going, view.batch.progress.waiting) == (1, 2, 1)
    assert await batches.list_batches(home.context, BatchFilter(status=BatchStatus.RUNNING), 10, None) == [view]
    assert await batches.list_batches(home.context, BatchFilter(status=BatchStatus.FAILED), 10, None) == []
    _, listed = await batches.list_items(home.context, batch.id, [ItemStatus.GOING], 10, 0)
    assert [(row.index, row.run_status, item.arguments) for row, item in listed] == [(1, RunStatus.QUEUED, ("b",))]
    with pytest.raises(NotFound):
        await batches.get_batch(home.context, "bat-" + "0" * 20)


async def test_a_service_with_waiting_items_and_their_image_stay(home: Home) -> None:
    batch = await create(home, *items("a", "b"))
    assert await home.context.database.read(rows.fetch_needed_digests) == {DIGEST}
    with pytest.raises(ServiceBusy, match="2 runs going, or waiting in a batch"):
        await delete_service(home.context, batch.service_id)
    await batches.cancel_batch(home.context, batch.id, "somebody")
    assert await home.context.database.read(rows.fetch_needed_digests) == set()
    await delete_service(home.context, batch.service_id)
    now = home.context.clock.now()
    assert await home.context.database.run(lambda c: rows.forget_ended_before(c, now, 10)) == 1
    with pytest.raises(NotFound):
        await batches.get_batch(home.context, batch.id)


async def test_an_item_whose_run_is_forgotten_has_failed_and_its_batch_ends(home: Home) -> None:
    batch = await create(home, *items("a"))
    await go_on(home, batch.id)
    await home.context.database.run(lambda c: c.execute(delete(tables.runs)) and None)
    assert (await go_on(home, batch.id)).batch.status is BatchStatus.FAILED


async def test_two_servers_at_once_run_each_item_once(home: Home) -> None:
    batch = await create(home, *items(*(str(number) for number in range(40))), max_parallel=5)
    makers = [ItemRuns(home.context), ItemRuns(home.context)]
    for _ in range(8):
        await asyncio.gather(*(go_on(home, batch.id, maker) for maker in makers for _ in range(2)))
        going = [run for run in await runs_of(home, batch.id) if run.is_going]
        assert len(going) == 5
        await asyncio.gather(*(end(home, run) for run in going))
    ended = (await go_on(home, batch.id)).batch
    assert (ended.status, ended.progress.succeeded) == (BatchStatus.SUCCEEDED, 40)
    assert [run.batch_index for run in await runs_of(home, batch.id)] == list(range(40))
