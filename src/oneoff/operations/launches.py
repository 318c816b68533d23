"""What runs of a service are made from: its live image, limits and variables. Used when runs are accepted.

Remembered as long as no configuration changes, so that accepting a run reads one value, not a dozen rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from oneoff.operations.context import Context
from oneoff.operations.variables import Variables, open_variables
from oneoff.store import configuration, services, variables
from oneoff.store.dialect import Connection
from oneoff.store.services import Launch

_MOST_KNOWN = 256


@dataclass(frozen=True, slots=True)
class Materials:
    version: str | None
    launch: Launch
    variables: Variables = field(repr=False)


_known: dict[tuple[str, str], Materials] = {}


def get_materials(context: Context, connection: Connection, service_id: str) -> Materials:
    """As they are in the transaction of `connection`. Raises NotFound."""
    version = configuration.find_version(connection, service_id)
    found = _known.get((context.instance, service_id))
    if found is not None and version is not None and found.version == version:
        return found
    launch = services.get_launch(connection, service_id)
    layers = variables.fetch_layers(connection, launch.environment_id, launch.service_id)
    read = Materials(version, launch, open_variables(context.sealer, layers))
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[context.instance, service_id] = read
    return read
