"""Brings deploys forward, one step at a time: image, gates, live. Used by `deploys` and the deployer's loop.

The rows are the only memory. Each step is one transaction, guarded by the status it begins from, so that servers may
die between any two, or several of them try the same: a gate is started once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from weakref import WeakValueDictionary

from oneoff import journal
from oneoff.core.gates import DEPLOY_STATUS, Gate, GateState, describe_gate_end, gate_state
from oneoff.core.image import parse_image_ref
from oneoff.core.outcome import Outcome, StopKind
from oneoff.core.run import Reason, Run, RunStatus, Trigger
from oneoff.engine.events import record
from oneoff.engine.retrying import end_if_queued
from oneoff.errors import DriverError, OneoffError
from oneoff.operations.context import Context
from oneoff.operations.images import open_credentials, prepare_image
from oneoff.operations.jobs import Job, to_request
from oneoff.operations.room import check_room
from oneoff.operations.runs import Origin, PinnedImage, insert_run
from oneoff.store import deploys, gates, idempotency, jobs, runs, services
from oneoff.store.deploys import Deploy, DeployStatus
from oneoff.store.dialect import Connection
from oneoff.store.gates import DeployGate
from oneoff.store.idempotency import Idempotency
from oneoff.store.runs import End

# So that two requests of one server do not make the same image local twice; order is kept by the rows.
_lines: WeakValueDictionary[tuple[str, str], asyncio.Lock] = WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class Before:
    """What a deploy waits for: an earlier one of its service, or a gate of one that goes on."""

    deploy_id: str
    text: str
    waits_for_gates: bool  # which may take long


async def advance(context: Context, deploy_id: str) -> tuple[Deploy, Before | None]:
    """Whatever step can be made now; also what stands before a deploy that cannot begin. Raises NotFound, and a
    temporary DriverError."""
    deploy = await context.database.read(lambda c: deploys.get_deploy(c, deploy_id))
    before = None
    if deploy.status is DeployStatus.CREATED:
        before = await _begin(context, deploy)
    else:
        for run_id in await context.database.run(lambda c: _Gates(context, c).settle(deploy_id)):
            context.signals.run_changed(run_id)
    after = await context.database.read(lambda c: deploys.get_deploy(c, deploy_id))
    if after.status is not deploy.status:
        journal.info("deploy", deploy=deploy_id, status=after.status.value, message=after.message)
        context.signals.run_accepted()
        context.signals.deploy_changed(deploy.service_id)
    return after, before


async def give_up(context: Context, deploy: Deploy, why: str, forget: Idempotency | None = None) -> None:
    """created -> canceled; the key of the request may be used again."""

    def work(connection: Connection) -> None:
        _end(context, connection, deploy, DeployStatus.CANCELED, why)
        idempotency.forget(connection, forget)

    await context.database.run(work)
    context.signals.deploy_changed(deploy.service_id)


async def cancel(context: Context, deploy_id: str, actor: str) -> Deploy:
    """See `deploys.cancel_deploy`."""

    def work(connection: Connection) -> tuple[Deploy, list[str]]:
        deploy = deploys.get_deploy(connection, deploy_id)
        stopped: list[str] = []
        if deploy.status is DeployStatus.CREATED:
            _end(context, connection, deploy, DeployStatus.CANCELED, f"canceled by {actor}")
        elif deploys.request_cancel(connection, deploy_id, actor):
            stopped = _Gates(context, connection).settle(deploy_id)
            _Gates(context, connection).settle(deploy_id)  # those that had not begun have ended already
        return deploys.get_deploy(connection, deploy_id), stopped

    deploy, stopped = await context.database.run(work)
    for run_id in stopped:
        context.signals.run_changed(run_id)
    return deploy


async def _begin(context: Context, deploy: Deploy) -> Before | None:
    if (before := await context.database.read(lambda c: _find_before(c, deploy))) is not None:
        if deploy.message != before.text:
            await context.database.run(lambda c: deploys.save_message_if_created(c, deploy.id, before.text))
        return before
    async with _lines.setdefault((context.instance, deploy.service_id), asyncio.Lock()):
        deploy = await context.database.read(lambda c: deploys.get_deploy(c, deploy.id))
        if deploy.status is DeployStatus.CREATED:
            await _begin_in_turn(context, deploy)
    return None


async def _begin_in_turn(context: Context, deploy: Deploy) -> None:
    service = await context.database.read(lambda c: services.get_service(c, deploy.service_id))
    try:
        prepared = await prepare_image(context, parse_image_ref(deploy.image), open_credentials(context, service))
    except DriverError as problem:
        if problem.temporary:
            raise
        why = str(problem)
        await context.database.run(lambda c: _end(context, c, deploy, DeployStatus.IMAGE_UNAVAILABLE, why))
        return
    ready = replace(deploy, image_ref=prepared.ref, digest=prepared.digest, image_config=prepared.config)
    try:
        check_room(context.settings, context.clock)
        await context.database.run(lambda c: _Gates(context, c).open_or_go_live(ready))
    except OneoffError as problem:
        if problem.temporary:
            raise
        why = f"its gates could not be started: {problem}"
        await context.database.run(lambda c: _end(context, c, deploy, DeployStatus.PRE_DEPLOY_FAILED, why))


def _find_before(connection: Connection, deploy: Deploy) -> Before | None:
    if (other := deploys.find_before(connection, deploy)) is not None:
        in_progress = other[1] is DeployStatus.PRE_DEPLOY_IN_PROGRESS
        return Before(other[0], f"waits for the end of {other[0]}, an earlier deploy of the service", in_progress)
    if (gate := gates.find_open_of_service(connection, deploy.service_id)) is not None:
        text = f"waits for the end of {gate.run_id}, job {gate.job} of the ended deploy {gate.deploy_id}"
        return Before(gate.deploy_id, text, waits_for_gates=True)
    return None


class _Gates:
    """One transaction about the gates of a deploy."""

    def __init__(self, context: Context, connection: Connection) -> None:
        self._context = context
        self._connection = connection
        self._now: datetime = context.clock.now()

    def open_or_go_live(self, deploy: Deploy) -> None:
        """A created one whose image is here. Raises what accepting a run of its gates raises."""
        deploys.take_turn(self._connection, deploy.service_id)
        if _find_before(self._connection, deploy) is not None:
            return
        before = jobs.list_of_gate(self._connection, deploy.service_id, Gate.BEFORE_DEPLOY)
        if not before:
            self._go_live(deploy)
        elif deploys.begin_gates_if_created(self._connection, deploy):
            for job in before:
                self._save(deploy, job, self._start(deploy, job))

    def settle(self, deploy_id: str) -> list[str]:
        """Look what became of the runs; the ids of those that were asked to end."""
        deploy = deploys.get_deploy(self._connection, deploy_id)
        found = gates.list_gates(self._connection, [deploy_id])
        newest = [(gate, self._look_at(deploy, gate)) for gate in found]
        if deploy.status is not DeployStatus.PRE_DEPLOY_IN_PROGRESS:
            return []
        return self._decide(deploy, [(gate, run) for gate, run in newest if gate.gate is Gate.BEFORE_DEPLOY])

    def _decide(self, deploy: Deploy, before: Sequence[tuple[DeployGate, Run | None]]) -> list[str]:
        going = [run for _, run in before if run is not None and run.is_going]
        if deploy.canceled_by is not None:
            if not going:
                _end(
                    self._context, self._connection, deploy, DeployStatus.CANCELED, f"canceled by {deploy.canceled_by}"
                )
            return [run.id for run in going if self._stop(run, deploy.canceled_by)]
        ends = [run.status if run is not None else gate.end or RunStatus.FAILED for gate, run in before]
        state = gate_state(len(before), ends)
        if state is GateState.OPEN:
            self._go_live(deploy)
        elif state is not GateState.WAITING:
            _end(self._context, self._connection, deploy, DEPLOY_STATUS[state], _why(before))
            # A command that is at it is left to end by itself: half a migration is worse than one too many.
            return [run.id for run in going if self._stop(run, f"deploy {deploy.id}", only_queued=True)]
        return []

    def _go_live(self, deploy: Deploy) -> None:
        deploy = replace(deploy, finished_at=self._now)
        if not deploys.make_live_if_newest(self._connection, deploy):
            why = "a newer deploy of the service went live meanwhile"
            _end(self._context, self._connection, deploy, DeployStatus.CANCELED, why)
            return
        for job in jobs.list_of_gate(self._connection, deploy.service_id, Gate.AFTER_DEPLOY):
            try:
                started: Run | OneoffError = self._start(deploy, job)
            except OneoffError as problem:
                if problem.temporary:
                    raise
                started = problem
            self._save(deploy, job, started)
        _tell_end(self._context, self._connection, deploys.get_deploy(self._connection, deploy.id))

    def _start(self, deploy: Deploy, job: Job) -> Run:
        assert deploy.image_ref is not None
        assert deploy.digest is not None
        image = PinnedImage(deploy.id, deploy.image, deploy.image_ref, deploy.digest)
        request = replace(to_request(self._context, job), image=image)
        origin = Origin(deploy.actor, Trigger.DEPLOY, job_id=job.id)
        return insert_run(self._context, self._connection, job.service_id, request, origin)

    def _save(self, deploy: Deploy, job: Job, started: Run | OneoffError) -> None:
        assert job.gate is not None
        gate = DeployGate(deploy.id, job.id, job.name, Gate(job.gate), None)
        if isinstance(started, Run):
            gate = replace(gate, run_id=started.id)
        else:
            gate = replace(gate, end=RunStatus.FAILED, message=str(started))
            self._tell_failed(deploy, gate, str(started))
        gates.save_new(self._connection, gate)

    def _look_at(self, deploy: Deploy, gate: DeployGate) -> Run | None:
        """The newest attempt; its end is kept with the gate, as the history expires. None when the run is gone."""
        run = None if gate.run_id is None else runs.find_run(self._connection, gate.run_id)
        while run is not None and run.status.is_final and run.retries is not None:
            if (retry_id := runs.find_retry(self._connection, run)) is None:
                break
            run = runs.get_run(self._connection, retry_id)
        if run is None and gate.end is None and gate.run_id is not None:
            gates.save_attempt(self._connection, gate, gate.run_id, RunStatus.FAILED)
        if run is None or gate.end is not None:
            return run
        end = run.status if run.status.is_final else None
        is_news = end is not None or run.id != gate.run_id
        saved = is_news and gates.save_attempt(self._connection, gate, run.id, end)
        if saved and end is RunStatus.FAILED and gate.gate is Gate.AFTER_DEPLOY:
            self._tell_failed(deploy, replace(gate, run_id=run.id), describe_gate_end(gate.job, run))
        return run

    def _stop(self, run: Run, actor: str, *, only_queued: bool = False) -> bool:
        canceled = Outcome(RunStatus.CANCELED, Reason.CANCELED)
        end = End(canceled, self._now, message=f"canceled by {actor}", canceled_by=actor)
        if end_if_queued(self._context, self._connection, run, end):
            return True
        return not only_queued and runs.request_stop(self._connection, run.id, StopKind.CANCEL, actor, self._now)

    def _tell_failed(self, deploy: Deploy, gate: DeployGate, why: str) -> None:
        """The deploy is live and stays so."""
        service = services.get_service(self._connection, deploy.service_id).path
        body = {"service": service, "job_id": gate.job_id, "job": gate.job, "run_id": gate.run_id, "message": why}
        record(self._context, self._connection, "deploy.after_deploy_failed", deploy.id, body, deploy.service_id)


def tell(context: Context, connection: Connection, kind: str, deploy: Deploy, service: str) -> None:
    """An event about a deploy, in the transaction of what it tells of."""
    told = gates.list_gates(connection, [deploy.id])
    body = {
        "service": service,
        "status": deploy.status.value,
        "image": deploy.image,
        "digest": deploy.digest,
        "actor": deploy.actor,
        "message": deploy.message,
        "gate_run_ids": [gate.run_id for gate in told if gate.run_id is not None],
    }
    record(context, connection, kind, deploy.id, body, deploy.service_id)


def _end(context: Context, connection: Connection, deploy: Deploy, status: DeployStatus, message: str) -> None:
    if deploys.end_if_unchanged(connection, deploy, status, message, context.clock.now()):
        _tell_end(context, connection, deploys.get_deploy(connection, deploy.id))


_KINDS = {DeployStatus.LIVE: "deploy.live", DeployStatus.CANCELED: "deploy.canceled"}


def _tell_end(context: Context, connection: Connection, deploy: Deploy) -> None:
    service = services.get_service(connection, deploy.service_id)
    tell(context, connection, _KINDS.get(deploy.status, "deploy.failed"), deploy, service.path)


def _why(before: Sequence[tuple[DeployGate, Run | None]]) -> str:
    ends = [describe_gate_end(gate.job, run) for gate, run in before if run is not None and _stands_in_the_way(run)]
    return "; ".join(ends) or "the run of its gate is gone from the history"


def _stands_in_the_way(run: Run) -> bool:
    return run.status in (RunStatus.FAILED, RunStatus.CANCELED)
