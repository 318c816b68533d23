"""What happens when a run is asked for, looked at and canceled."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import timedelta

import pytest

from oneoff.core.command import Command
from oneoff.core.run import Reason, Run, RunStatus, Trigger
from oneoff.engine.spec import variables_place
from oneoff.errors import (
    DiskFull,
    IdempotencyKeyReused,
    InstanceTypeTooLarge,
    InvalidVariables,
    NoLiveImage,
    NotFound,
    TimeLimitTooLong,
    UnknownInstanceType,
)
from oneoff.operations import batches, deploys, room, runs, services, variables
from oneoff.operations.runs import Origin, RunRequest
from oneoff.operations.variables import VariableChange
from oneoff.store import runs as run_rows
from oneoff.store.idempotency import Idempotency
from oneoff.store.runs import RunFilter, Window, save_waiting_for
from tests.operations.home import DIGEST, IMAGE, NEXT_DIGEST, NEXT_IMAGE, Home

pytestmark = pytest.mark.anyio
TRUE = RunRequest(Command(("true",)))
ONE_ITEM = batches.NewBatch((batches.NewItem(("a",)),))


async def accept(home: Home, service_id: str, request: RunRequest = TRUE, key: Idempotency | None = None) -> Run:
    return await runs.accept_run(home.context, service_id, request, Origin("tester", Trigger.API), key)


async def opened(home: Home, run_id: str) -> dict[str, object]:
    box = await home.context.database.read(lambda c: run_rows.fetch_sealed_variables(c, run_id))
    found: dict[str, object] = json.loads(home.context.sealer.open(box, variables_place(run_id)))
    return found


async def test_an_accepted_run_is_queued_with_the_live_image_and_the_dispatcher_is_woken(home: Home) -> None:
    service = await home.add_service()
    run = await accept(home, service.id)
    assert (run.status, run.digest, run.timeout_seconds) == (RunStatus.QUEUED, DIGEST, 30 * 86_400)
    assert run.instance_type == "plan-srv-006"
    assert home.context.signals.dispatch.is_set()
    assert await runs.get_run(home.context, run.id) == run


async def test_a_run_keeps_its_image_when_another_is_deployed(home: Home) -> None:
    service = await home.add_service()
    before = await accept(home, service.id)
    await deploys.create_deploy(home.context, service.id, NEXT_IMAGE, "tester")
    after = await accept(home, service.id)
    assert (await runs.get_run(home.context, before.id)).digest == DIGEST
    assert after.digest == NEXT_DIGEST


async def test_a_run_gets_environment_service_and_own_variables_in_that_order(home: Home) -> None:
    service = await home.add_service()
    own = {name: VariableChange(value) for name, value in {"A": "env", "B": "env", "C": "env"}.items()}
    await variables.replace_variables(home.context, service.environment_id, own)
    await variables.replace_variables(
        home.context, service.id, {"B": VariableChange("service", True), "C": VariableChange("service", True)}
    )
    run = await accept(home, service.id, RunRequest(Command(("true",)), {"C": VariableChange("run")}))
    assert await opened(home, run.id) == {
        "variables": {"A": "env", "B": "service", "C": "run"},
        "secret": ["B", "C"],
    }


async def test_a_run_gets_the_variables_as_they_are_when_it_is_created(home: Home) -> None:
    service = await home.add_service()
    for owner, value in ((service.id, "1"), (service.id, "2"), (service.environment_id, "3"), (service.id, "4")):
        await variables.merge_variables(home.context, owner, {"A": VariableChange(value)})
        run = await accept(home, service.id)
        own = value if owner == service.id else "2"
        assert (await opened(home, run.id))["variables"] == {"A": own}


async def test_a_changed_service_changes_its_next_run(home: Home) -> None:
    service = await home.add_service()
    await accept(home, service.id)
    await services.change_service(home.context, service.id, {"instance_type": "plan-srv-008", "entrypoint": "clear"})
    run = await accept(home, service.id)
    assert (run.instance_type, run.entrypoint) == ("plan-srv-008", "clear")


async def test_variables_lie_sealed_in_the_store(home: Home) -> None:
    service = await home.add_service()
    run = await accept(home, service.id, RunRequest(Command(("true",)), {"A": VariableChange("visible-value")}))
    box = await home.context.database.read(lambda c: run_rows.fetch_sealed_variables(c, run.id))
    assert b"visible-value" not in box


@pytest.mark.parametrize(
    ("request_", "error"),
    [
        (RunRequest(Command(("true",)), timeout_seconds=30 * 86_400 + 1), TimeLimitTooLong),
        (RunRequest(Command(("true",)), instance_type="plan-crn-003"), UnknownInstanceType),
        (RunRequest(Command(("true",)), {"ONEOFF_X": VariableChange("1")}), InvalidVariables),
        (RunRequest(Command(("true",)), {"A": VariableChange("x" * 131_070)}), InvalidVariables),
        (RunRequest(Command(("true",)), {f"A{n}": VariableChange("x" * 100_000) for n in range(11)}), InvalidVariables),
        (RunRequest(Command(("true",)), {"A": VariableChange()}), InvalidVariables),
    ],
)
async def test_what_breaks_a_rule_is_refused_and_leaves_nothing(
    home: Home, request_: RunRequest, error: type[Exception]
) -> None:
    service = await home.add_service()
    with pytest.raises(error):
        await accept(home, service.id, request_)
    assert await runs.list_runs(home.context, RunFilter(), 10, None) == []


async def test_an_instance_type_the_node_cannot_hold_is_refused_with_those_that_fit(home: Home) -> None:
    service = await home.add_service()
    home.context = replace(home.context, facts=replace(home.context.facts, cpus=2, memory_bytes=3 << 30))
    with pytest.raises(InstanceTypeTooLarge, match=r"Types that fit: plan-srv-006, plan-srv-008$"):
        await accept(home, service.id, RunRequest(Command(("true",)), instance_type="plan-srv-010"))


async def test_a_service_without_a_live_image_says_how_to_get_one(home: Home) -> None:
    service = await home.add_service(image=None)
    with pytest.raises(NoLiveImage, match="oneoff deploy shop/production/web"):
        await accept(home, service.id)


@pytest.mark.parametrize("service_id", ["srv-00000000000000000000", "nothing", "\0", "run-00000000000000000000"])
async def test_an_unknown_service_is_not_found(home: Home, service_id: str) -> None:
    with pytest.raises(NotFound):
        await accept(home, service_id)


def fill_disk(home: Home) -> None:
    room._seen.clear()
    settings = replace(home.context.settings, disk_reserve_bytes=1 << 60)
    home.context = replace(home.context, settings=settings)


async def test_a_full_disk_refuses_runs_and_says_what_helps(home: Home) -> None:
    service = await home.add_service()
    fill_disk(home)
    with pytest.raises(DiskFull, match="Free some space"):
        await accept(home, service.id)
    with pytest.raises(DiskFull, match="Free some space"):
        await deploys.begin_deploy(home.context, service.id, IMAGE, "somebody")
    ask = batches.of_service(service.id, TRUE)
    with pytest.raises(DiskFull, match="Free some space"):
        await batches.create_batch(home.context, ask, ONE_ITEM, "somebody")
    room._seen.clear()


async def test_what_was_made_before_the_disk_was_full_is_given_again(home: Home) -> None:
    service = await home.add_service()
    ask = batches.of_service(service.id, TRUE)

    async def make() -> list[object]:
        run = await accept(home, service.id, key=Idempotency("tok-1", "run", "same"))
        deploy = await deploys.begin_deploy(
            home.context, service.id, IMAGE, "somebody", request=Idempotency("tok-1", "deploy", "same")
        )
        batch = await batches.create_batch(
            home.context, ask, ONE_ITEM, "somebody", Idempotency("tok-1", "batch", "same")
        )
        return [run, deploy, batch.batch]

    made = await make()
    fill_disk(home)
    assert await make() == made
    room._seen.clear()


async def test_the_same_idempotency_key_and_request_give_the_same_run(home: Home) -> None:
    service = await home.add_service()
    key = Idempotency("tok-1", "k", "same")
    made = await asyncio.gather(*(accept(home, service.id, key=key) for _ in range(8)))
    assert len({run.id for run in made}) == 1
    assert len(await runs.list_runs(home.context, RunFilter(), 10, None)) == 1


async def test_the_same_key_for_another_request_is_refused(home: Home) -> None:
    service = await home.add_service()
    await accept(home, service.id, key=Idempotency("tok-1", "k", "one"))
    with pytest.raises(IdempotencyKeyReused):
        await accept(home, service.id, key=Idempotency("tok-1", "k", "two"))
    await accept(home, service.id, key=Idempotency("tok-2", "k", "two"))


async def test_a_refused_run_does_not_use_up_its_key(home: Home) -> None:
    service = await home.add_service(image=None)
    key = Idempotency("tok-1", "k", "same")
    with pytest.raises(NoLiveImage):
        await accept(home, service.id, key=key)
    await deploys.create_deploy(home.context, service.id, NEXT_IMAGE, "tester")
    assert (await accept(home, service.id, key=key)).digest == NEXT_DIGEST


async def test_canceling_a_queued_run_ends_it_at_once(home: Home) -> None:
    service = await home.add_service()
    run = await accept(home, service.id)
    ended = await runs.cancel_run(home.context, run.id, "somebody")
    assert (ended.status, ended.reason) == (RunStatus.CANCELED, Reason.CANCELED)
    assert "somebody" in (ended.message or "")


async def test_canceling_a_going_run_asks_for_its_end_and_tells_its_watchers(home: Home) -> None:
    service = await home.add_service()
    run = await accept(home, service.id)
    await home.start(run.id)
    with home.context.signals.watch(run.id) as changed:
        asked = await runs.cancel_run(home.context, run.id, "somebody")
        assert changed.is_set()
    assert (asked.status, asked.stop_kind, asked.stop_actor) == (RunStatus.RUNNING, "cancel", "somebody")


async def test_canceling_an_ended_run_leaves_it_unchanged(home: Home) -> None:
    service = await home.add_service()
    run = await accept(home, service.id)
    await home.start(run.id)
    await home.finish(run.id)
    before = await runs.get_run(home.context, run.id)
    assert await runs.cancel_run(home.context, run.id, "somebody") == before


async def test_a_queued_run_tells_its_place_and_what_it_waits_for(home: Home) -> None:
    service = await home.add_service()
    first, second = await accept(home, service.id), await accept(home, service.id)
    assert (await runs.view_run(home.context, first.id)).queue_position == 1
    view = await runs.view_run(home.context, second.id)
    assert (view.queue_position, view.waiting_for) == (2, None)
    await home.start(first.id)
    assert (await runs.view_run(home.context, first.id)).queue_position is None
    assert (await runs.view_run(home.context, second.id)).queue_position == 1


async def test_a_slot_that_is_free_is_told_with_those_who_get_it_before(home: Home) -> None:
    service = await home.add_service()
    home.context = replace(home.context, settings=replace(home.context.settings, slots=1))
    waiting = [await accept(home, service.id) for _ in range(3)]

    async def told() -> list[str | None]:
        return [(await runs.view_run(home.context, run.id)).waiting_for for run in waiting]

    before = "a free slot (0 of 1 taken, 1 run is before it)", "a free slot (0 of 1 taken, 2 runs are before it)"
    assert await told() == [None, *before]
    await home.start(waiting.pop(0).id)
    assert await told() == ["a free slot (1 of 1 taken)", "a free slot (1 of 1 taken, 1 run is before it)"]


async def test_what_a_run_waited_for_once_is_not_told_when_it_waits_for_a_slot(home: Home) -> None:
    service = await home.add_service()
    home.context = replace(home.context, settings=replace(home.context.settings, slots=1))
    first, second = await accept(home, service.id), await accept(home, service.id)
    await home.context.database.run(lambda c: save_waiting_for(c, second.id, "the engine"))
    assert "slot" in str((await runs.view_run(home.context, second.id)).waiting_for)
    await home.start(first.id)
    await home.finish(first.id)
    assert (await runs.view_run(home.context, second.id)).waiting_for == "the engine"


async def test_a_suspended_service_takes_runs_and_leaves_those_that_are_going(home: Home) -> None:
    service = await home.add_service()
    going = await accept(home, service.id)
    await home.start(going.id)
    assert (await services.set_suspended(home.context, service.id, True)).suspended
    accepted = await accept(home, service.id)
    found = [await runs.get_run(home.context, each.id) for each in (going, accepted)]
    assert [(each.status, each.stop_kind) for each in found] == [(RunStatus.RUNNING, None), (RunStatus.QUEUED, None)]


async def test_runs_of_a_deleted_service_stay_listed_by_its_id(home: Home) -> None:
    service = await home.add_service()
    run = await accept(home, service.id)
    await runs.cancel_run(home.context, run.id, "tester")
    await services.delete_service(home.context, service.id)
    wanted = RunFilter(service_id=await runs.find_service_id(home.context, service.id))
    assert [each.id for each in await runs.list_runs(home.context, wanted, 10, None)] == [run.id]


async def test_created_at_is_the_moment_of_acceptance(home: Home) -> None:
    service = await home.add_service()
    run = await accept(home, service.id)
    assert abs(home.context.clock.now() - run.created_at) < timedelta(seconds=10)


async def test_runs_are_listed_within_bounds_of_each_of_their_times(home: Home) -> None:
    service = await home.add_service()
    first, second, third = [await accept(home, service.id) for _ in range(3)]
    await home.start(first.id)
    await home.start(second.id)
    await home.finish(first.id)
    ended, going = await runs.get_run(home.context, first.id), await runs.get_run(home.context, second.id)

    async def ids(**wanted: object) -> list[str]:
        found = await runs.list_runs(home.context, RunFilter(service.id, **wanted), 10, None)  # type: ignore[arg-type]
        return [run.id for run in found]

    # Ids of one millisecond are in no order.
    assert set(await ids(created=Window(after=first.created_at))) == {second.id, third.id}
    assert await ids(created=Window(after=first.created_at, before=third.created_at)) == [second.id]
    assert await ids(started=Window(before=going.started_at)) == [first.id]
    statuses = [RunStatus.QUEUED, RunStatus.RUNNING]
    assert await ids(started=Window(after=ended.started_at), status=statuses) == [second.id]
    assert await ids(finished=Window(after=first.created_at)) == [first.id]
    assert await ids(finished=Window(before=ended.finished_at)) == []
