"""Variables of environments and services: read, replaced and merged, sealed in the store. Used by the API and runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from oneoff.core.variables import Variable, check_variables
from oneoff.errors import InvalidVariables
from oneoff.operations.context import Context
from oneoff.operations.ids import check_id
from oneoff.sealing import Sealer
from oneoff.store import environments, services, variables
from oneoff.store.dialect import Connection
from oneoff.store.variables import SealedVariable


@dataclass(frozen=True, slots=True)
class VariableChange:
    """What a caller says about one variable; None = as it is now."""

    value: str | None = field(default=None, repr=False)
    secret: bool | None = None

    def on_top_of(self, below: VariableChange | None) -> VariableChange:
        """Both in one: what this one does not say, `below` says."""
        if below is None:
            return self
        value = below.value if self.value is None else self.value
        return VariableChange(value, below.secret if self.secret is None else self.secret)


Variables = dict[str, Variable]


def value_place(owner_id: str, name: str) -> str:
    """Where the value of a variable is sealed for."""
    return f"variables/{owner_id}/{name}"


def open_variables(sealer: Sealer, found: Iterable[SealedVariable]) -> Variables:
    """Later ones win; a secret stays one."""
    opened: Variables = {}
    for each in found:
        value = sealer.open(each.value_sealed, value_place(each.owner_id, each.name)).decode()
        below = opened.get(each.name)
        opened[each.name] = Variable(value, each.secret or (below is not None and below.secret))
    return opened


def apply_change(name: str, change: VariableChange, present: Variable | None) -> Variable:
    """A secret stays one until somebody says otherwise. Raises InvalidVariables for a new one without a value."""
    value = change.value if change.value is not None else present.value if present else None
    if value is None:
        raise InvalidVariables(f"{name} has no value yet: give one")
    secret = change.secret if change.secret is not None else present.secret if present else False
    return Variable(value, secret)


async def fetch_variables(context: Context, owner_id: str) -> Variables:
    """Of an environment or a service. Raises NotFound."""
    check_owner_id(owner_id)

    def work(connection: Connection) -> list[SealedVariable]:
        _OWNERS[_kind(owner_id)](connection, owner_id)
        return variables.fetch_variables(connection, owner_id)

    return open_variables(context.sealer, await context.database.read(work))


async def replace_variables(context: Context, owner_id: str, changes: Mapping[str, VariableChange]) -> Variables:
    """Afterwards there are exactly those named. Raises NotFound, InvalidVariables."""
    return await _save(context, owner_id, changes, keep_others=False)


async def merge_variables(context: Context, owner_id: str, changes: Mapping[str, VariableChange | None]) -> Variables:
    """None removes a variable, those not named stay. Raises NotFound, InvalidVariables."""
    return await _save(context, owner_id, changes, keep_others=True)


def change_variables(
    context: Context,
    connection: Connection,
    owner_id: str,
    changes: Mapping[str, VariableChange | None],
    *,
    keep_others: bool = True,
) -> Variables:
    """`merge_variables`, or `replace_variables`, inside the caller's transaction."""
    _OWNERS[_kind(owner_id)](connection, owner_id)
    sealer = context.sealer
    present = open_variables(sealer, variables.fetch_variables(connection, owner_id))
    after = merge(present, changes)
    if not keep_others:
        after = {name: variable for name, variable in after.items() if name in changes}
    check_variables({name: variable.value for name, variable in after.items()})
    sealed = [
        SealedVariable(owner_id, name, each.secret, sealer.seal(each.value.encode(), value_place(owner_id, name)))
        for name, each in after.items()
    ]
    variables.replace_variables(connection, owner_id, sealed)
    return after


def merge(present: Variables, changes: Mapping[str, VariableChange | None]) -> Variables:
    """None removes a variable, those not named stay. Raises InvalidVariables."""
    after = {name: variable for name, variable in present.items() if name not in changes}
    for name, change in changes.items():
        if change is not None:
            after[name] = apply_change(name, change, present.get(name))
    return after


def check_owner_id(owner_id: str) -> str:
    return check_id(_kind(owner_id), owner_id)


async def _save(
    context: Context, owner_id: str, changes: Mapping[str, VariableChange | None], *, keep_others: bool
) -> Variables:
    check_owner_id(owner_id)
    return await context.database.run(
        lambda c: change_variables(context, c, owner_id, changes, keep_others=keep_others)
    )


def _kind(owner_id: str) -> str:
    return "environment" if owner_id.startswith("evm-") else "service"


_OWNERS = {"environment": environments.check_environment, "service": services.get_service}
