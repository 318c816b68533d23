"""Rules for variables, and how a run's are put together. Pure; values never appear in a message."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from oneoff.core.run import Run
from oneoff.errors import InvalidVariables

RESERVED_PREFIX = "ONEOFF_"
MOST_BYTES_EACH = 131_071  # `KEY=value`: MAX_ARG_STRLEN of the Linux kernel, without the terminating NUL
MOST_BYTES_IN_ALL = 1_000_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


@dataclass(frozen=True, slots=True)
class Variable:
    """A value; `secret` ones are masked in logs and shown by no API answer that did not ask to reveal them."""

    value: str = field(repr=False)
    secret: bool = False


def check_variables(variables: Mapping[str, str]) -> None:
    """Names, sizes and contents. Raises InvalidVariables with the name of the first offender."""
    for name, value in variables.items():
        _check_one(name, value)
    total = sum(_bytes(name, value) + 1 for name, value in variables.items())
    if total > MOST_BYTES_IN_ALL:
        raise InvalidVariables(
            f"the variables have {total} bytes in all, the limit is {MOST_BYTES_IN_ALL}: put large values in a file"
        )


def merge_variables(*layers: Mapping[str, str]) -> dict[str, str]:
    """Environment, service, run: later ones win. Raises InvalidVariables when they are too large together."""
    merged: dict[str, str] = {}
    for layer in layers:
        merged.update(layer)
    check_variables(merged)
    return merged


def builtin_variables(run: Run) -> dict[str, str]:
    """What every run is given beside what its request says, whatever the user configured."""
    return {"ONEOFF_RUN_ID": run.id, "ONEOFF_SERVICE": run.service, "ONEOFF_TRIGGER": run.trigger.value}


def _check_one(name: str, value: str) -> None:
    if not _NAME.fullmatch(name):
        raise InvalidVariables(
            f"{name!r} cannot name a variable: use letters, digits and '_', not beginning with a digit"
        )
    if name.upper().startswith(RESERVED_PREFIX):
        raise InvalidVariables(f"{name}: names beginning with {RESERVED_PREFIX} are reserved; choose another one")
    if "\0" in value:
        raise InvalidVariables(f"the value of {name} contains the character NUL, which no process can be given")
    try:
        size = _bytes(name, value)
    except UnicodeEncodeError:
        raise InvalidVariables(f"the value of {name} is not valid Unicode") from None
    if size > MOST_BYTES_EACH:
        raise InvalidVariables(
            f"{name} has {size} bytes with its name, the kernel takes at most {MOST_BYTES_EACH} for one variable: "
            "put the value in a file"
        )


def _bytes(name: str, value: str) -> int:
    return len(name) + 1 + len(value.encode())
