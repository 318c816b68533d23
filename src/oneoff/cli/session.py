"""What one invocation of `oneoff` knows: the global options, and the client it makes when a command first calls."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from oneoff.cli.exit_codes import API_REFUSED
from oneoff.cli.problems import CliError
from oneoff.cli.target import Target, find_target

if TYPE_CHECKING:
    from oneoff.cli.client import Client

_MOST_NEAR = 100
_SERVICE_ID = re.compile(r"(?:srv|crn)-[0-9a-z]{20}")


def is_service(text: str) -> bool:
    """Whether a text that names a service or a job (PATH:NAME, or NAME alone) names a service."""
    return _SERVICE_ID.fullmatch(text) is not None or ("/" in text and ":" not in text)


@dataclass
class Session:
    """`failure_code` is the exit code of an error that is not the command's; commands that follow a run change it.
    `is_server` keeps the traceback of a defect: a server's last words are read later, by somebody else."""

    url: str | None = None
    token_file: Path | None = None
    debug: bool = False
    failure_code: int = API_REFUSED
    is_server: bool = False

    @cached_property
    def target(self) -> Target:
        return find_target(self.url, self._token_from_file())

    @cached_property
    def client(self) -> Client:
        from oneoff.cli.client import Client

        return Client(self.target)

    def find_service(self, path: str) -> dict[str, Any]:
        """The Service of a path or an id. Raises CliError when there is none."""
        if _SERVICE_ID.fullmatch(path):
            found: dict[str, Any] = self.client.get(f"/services/{path}").value
            return found
        service_path, colon, _ = path.partition(":")
        if colon:
            raise CliError(
                f"{path!r} is a job and no service: `oneoff job run {path}` runs it, its service is {service_path}"
            )
        items = self.client.get("/services", path=path).value["items"]
        if not items:
            raise CliError(
                f"there is no service {path!r}: {self._near(path)}`oneoff service list` shows those there are, "
                f"`oneoff service create {path} --image REF` makes it"
            )
        service: dict[str, Any] = items[0]
        return service

    def _near(self, path: str) -> str:
        there = [str(each["path"]) for each in self.client.get("/services", limit=_MOST_NEAR).value["items"]]
        near = difflib.get_close_matches(path, there, cutoff=0.5)
        return f"did you mean {' or '.join(near)}? " if near else ""

    def _token_from_file(self) -> str | None:
        if self.token_file is None:
            return None
        try:
            return self.token_file.read_text().strip()
        except OSError as problem:
            raise CliError(f"{self.token_file} cannot be read: {problem.strerror}") from problem


pass_session = click.make_pass_decorator(Session)
