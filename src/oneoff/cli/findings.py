"""What `oneoff doctor` says: one finding per line, with its mend. Made by the `*_checks` modules."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

OK, WARNING, PROBLEM = "ok", "warning", "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """`mend` is what to do about it; empty when there is nothing to do."""

    check: str
    level: str
    says: str
    mend: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def ok(check: str, says: str) -> Finding:
    return Finding(check, OK, says)


def warning(check: str, says: str, mend: str) -> Finding:
    return Finding(check, WARNING, says, mend)


def problem(check: str, says: str, mend: str) -> Finding:
    return Finding(check, PROBLEM, says, mend)
