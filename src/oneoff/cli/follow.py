"""Follows a run to its end over any number of lost connections: each byte once, the end exact.

Used by `run`, `attach` and `logs`.
"""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

from oneoff.cli.client import Client, backoff
from oneoff.cli.problems import ApiRefused, ServerUnreachable
from oneoff.cli.sse import Event
from oneoff.cli.streams import LostConnection, Narrator, Output

Run = Mapping[str, Any]


class Follower:
    """`position` counts the bytes of both streams that were passed on, or told as missing."""

    def __init__(self, client: Client, run_id: str, output: Output, narrator: Narrator) -> None:
        self._client = client
        self._run_id = run_id
        self._output = output
        self._narrator = narrator
        self._told_status = ""
        self._lost = LostConnection(narrator.progress, "the run")
        self.position = 0
        self.end_body = ""  # the ended Run as the server wrote it

    def follow(self) -> Run:
        """The ended run. Raises ApiRefused when the server is there and says no; waits for it otherwise."""
        delays = backoff()
        while True:
            wait = 0.0
            try:
                for event in self._client.events(f"/runs/{self._run_id}/logs/stream", self.position):
                    delays = backoff()
                    if (run := self._take(event)) is not None:
                        return run
            except ServerUnreachable:
                self._lost.tell()
            except ApiRefused as problem:
                if not problem.is_temporary:
                    raise
                wait = problem.retry_after or 0.0
                self._lost.tell()
            time.sleep(max(wait, next(delays)))
            self._client.look_again()

    def take_stored(self) -> None:
        """What is stored now, without waiting for more."""
        while True:
            try:
                page = self._client.get(f"/runs/{self._run_id}/logs", after=self.position, format="json").value["items"]
            except ApiRefused as problem:
                # A long log has more pages than the plan allows requests in a minute.
                if problem.status != 429 or problem.retry_after is None:
                    raise
                time.sleep(problem.retry_after)
                continue
            if not page:
                return
            for record in page:
                self._take_log(record)

    def tell(self, run: Run) -> None:
        """A line for people whenever what a run does, or waits for, has changed."""
        line = describe_status(run)
        if line and line != self._told_status:
            self._told_status = line
            self._narrator.progress(line)

    def _take(self, event: Event) -> Run | None:
        if event.name == "log":
            self._take_log(json.loads(event.data))
        elif event.name == "status":
            self.tell(json.loads(event.data))
        elif event.name == "end":
            self.end_body = event.data.decode()
            run: Run = json.loads(event.data)
            # Not the run's missing bytes: what was passed on as it came may have been dropped since.
            self._tell_missing(run["log"]["stdout_bytes"] + run["log"]["stderr_bytes"] - self.position)
            return run
        return None

    def _take_log(self, record: Mapping[str, Any]) -> None:
        text = record.get("text")
        data = text.encode() if text is not None else base64.b64decode(record["base64"])
        begin = record["position"] - len(data)
        self._tell_missing(begin - self.position)
        # A record may reach back behind the position when the server cut its records anew.
        fresh = data[max(0, self.position - begin) :]
        if fresh:
            self._output.write(record["stream"], fresh)
        self.position = max(self.position, record["position"])

    def _tell_missing(self, count: int) -> None:
        if count <= 0:
            return
        self._narrator.warn(
            f"{self._run_id}: {count} bytes of the output are missing here: "
            "they were not kept (beyond the cap of a run's log, or while the disk was full)"
        )


def describe_status(run: Run) -> str:
    """`run-… queued: waits for a slot`. Empty where there is nothing to say: queued without a reason to wait for long,
    and ended, which is told at the end."""
    if run["status"] == "queued":
        return f"{run['id']} queued: waits for {run['waiting_for']}" if run["waiting_for"] else ""
    if run["status"] == "running":
        return f"{run['id']} running in {run['image']}"
    return ""
