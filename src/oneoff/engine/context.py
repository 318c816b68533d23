"""What the engine and every operation work with. Made once by `oneoff.server`; the API hands it on."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime

from oneoff.chance import take
from oneoff.core.clock import Clock
from oneoff.core.ids import CHANCE_BYTES, make_id
from oneoff.core.instance_types import CATALOGUE, Catalogue
from oneoff.core.plan import PLANS, Plan, Plans, plan_of
from oneoff.core.queue import Turns
from oneoff.drivers.driver import Driver, NodeFacts
from oneoff.engine.signals import Signals
from oneoff.sealing import Sealer
from oneoff.settings import Settings
from oneoff.store.database import Database


@dataclass(frozen=True, slots=True)
class Context:
    """`instance` is this installation's id, also on the label of each of its containers; `lease` is this process's, and
    so are `turns`, which the dispatcher gives."""

    settings: Settings
    database: Database
    driver: Driver
    facts: NodeFacts
    sealer: Sealer
    clock: Clock
    signals: Signals
    instance: str
    workspace_id: str
    lease: str
    plans: Plans = field(default_factory=lambda: PLANS)
    catalogue: Catalogue = CATALOGUE
    turns: Turns = field(default_factory=Turns)

    def new_id(self, kind: str, at: datetime | None = None) -> str:
        """`at` is when what it names comes to be; None = now."""
        return make_id(kind, at or self.clock.now(), take(CHANCE_BYTES))

    def plan(self, plan_id: str) -> Plan:
        """Raises PlanNotOffered."""
        return plan_of(plan_id, self.plans)
