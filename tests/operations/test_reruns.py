"""The very same run once more, whatever was deployed or configured since."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oneoff.core.command import Command
from oneoff.core.run import RunStatus, Trigger
from oneoff.engine.spec import variables_place
from oneoff.errors import NotFound
from oneoff.operations import deploys, jobs, reruns, runs, services, variables
from oneoff.operations.jobs import NewJob, Overrides
from oneoff.operations.runs import Origin, RunRequest
from oneoff.operations.variables import VariableChange
from oneoff.store import runs as run_rows
from oneoff.store.idempotency import Idempotency
from tests.operations.home import DIGEST, NEXT_DIGEST, NEXT_IMAGE, Home

pytestmark = pytest.mark.anyio
MANUAL = Origin("somebody", Trigger.MANUAL)


async def opened(home: Home, run_id: str) -> dict[str, Any]:
    box = await home.context.database.read(lambda c: run_rows.fetch_sealed_variables(c, run_id))
    found: dict[str, Any] = json.loads(home.context.sealer.open(box, variables_place(run_id)))
    return found


async def test_a_rerun_has_image_command_variables_and_size_of_then_and_tells_what_is_not_as_now(home: Home) -> None:
    context, service = home.context, await home.add_service()
    own = {"SAME": VariableChange("1"), "OTHER": VariableChange("then", True), "GONE": VariableChange("1")}
    await variables.replace_variables(context, service.id, own)
    asked = RunRequest(Command(("true",)), {"MINE": VariableChange("1")}, "plan-srv-008", 60, "clear")
    first = await runs.accept_run(context, service.id, asked, Origin("tester", Trigger.API))
    await home.start(first.id)
    await home.finish(first.id)

    await deploys.create_deploy(context, service.id, NEXT_IMAGE, "tester")
    changes = {"OTHER": VariableChange("now"), "GONE": None, "NEW": VariableChange("1")}
    await variables.merge_variables(context, service.id, changes)
    again, difference = await reruns.run_again(context, first.id, MANUAL)

    assert (again.status, again.rerun_of, again.actor, again.trigger) == (
        RunStatus.QUEUED, first.id, "somebody", Trigger.MANUAL,
    )  # fmt: skip
    same = ("command", "digest", "image_ref", "instance_type", "timeout_seconds", "entrypoint", "service_id")
    assert [getattr(again, name) for name in same] == [getattr(first, name) for name in same]
    assert (again.exit_code, again.started_at, again.node) == (None, None, None)
    assert await opened(home, again.id) == await opened(home, first.id)
    assert difference.digest == (DIGEST, NEXT_DIGEST)
    assert difference.instance_type == ("plan-srv-008", "plan-srv-006")
    assert (difference.changed, difference.only_then, difference.only_now) == (["OTHER"], ["GONE", "MINE"], ["NEW"])
    assert context.signals.dispatch.is_set()


async def test_a_rerun_of_a_job_is_compared_with_the_job(home: Home) -> None:
    context, service = home.context, await home.add_service()
    settings = {"command": ["seed"], "instance_type": "plan-srv-008", "variables": {"A": VariableChange("1")}}
    job = await jobs.create_job(context, NewJob(service.id, "seed", settings))
    run = await jobs.run_job(context, job.id, Overrides(), MANUAL)
    again, difference = await reruns.run_again(context, run.id, MANUAL)
    assert again.job_id == job.id
    assert difference == reruns.Difference(None, None, None, [], [], [])
    await jobs.change_job(context, job.id, {"shell": "seed --all", "variables": {"A": VariableChange("2")}})
    _, difference = await reruns.run_again(context, again.id, MANUAL)
    assert (difference.command, difference.changed) == (("seed", "seed --all"), ["A"])


async def test_the_same_key_reruns_once(home: Home) -> None:
    service = await home.add_service()
    run = await runs.accept_run(home.context, service.id, RunRequest(Command(("true",))), MANUAL)
    key = Idempotency("tok-1", "k", "same")
    made = [(await reruns.run_again(home.context, run.id, MANUAL, key))[0].id for _ in range(2)]
    assert made[0] == made[1] != run.id


async def test_a_run_that_is_not_there_or_whose_service_is_gone_is_not_run_again(home: Home) -> None:
    with pytest.raises(NotFound):
        await reruns.run_again(home.context, "run-00000000000000000000", MANUAL)
    service = await home.add_service()
    run = await runs.accept_run(home.context, service.id, RunRequest(Command(("true",))), MANUAL)
    await runs.cancel_run(home.context, run.id, "tester")
    await services.delete_service(home.context, service.id)
    with pytest.raises(NotFound):
        await reruns.run_again(home.context, run.id, MANUAL)
