"""What can go wrong between the CLI and a server, as exceptions. `main` is the one place that prints them and exits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class CliError(Exception):
    """A sentence for people, ready to be printed after `error: `."""


class ServerUnreachable(CliError):
    """No server answers. `sent` tells whether the request may have reached it before the connection was lost."""

    def __init__(self, url: str, source: str, why: str, *, sent: bool = False) -> None:
        mend = f"is it running? Start one with `oneoff serve`, or name another with ONEOFF_URL (this is {source})"
        super().__init__(f"no Oneoff server answers at {url} ({why}): {mend}")
        self.url = url
        self.why = why
        self.sent = sent


class ApiRefused(CliError):
    """The server answered with an error. `code` is the stable word of problem+json, where there is one; `errors` are
    `field` and `detail` of each, where there are several."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        retry_after: float | None = None,
        errors: Sequence[Mapping[str, Any]] = (),
    ) -> None:
        super().__init__(detail)
        self.errors = errors
        self.status = status
        self.code = code
        self.retry_after = retry_after

    @property
    def is_temporary(self) -> bool:
        """The same request may succeed later: the server is starting, stopping, overloaded or behind a proxy."""
        return self.status == 429 or self.status >= 500


class Interrupted(BaseException):
    """The user wants the CLI to leave now, by Ctrl-C, TERM or HUP. `exit_code` is 128 + the signal's number."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number
