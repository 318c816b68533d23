"""What fires, bounds and bills runs, and what the outside world hears of them."""

from __future__ import annotations

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    _batches()
    _gates()
    _limits()
    _events()
    _webhooks()
    _log_streams()


def _batches() -> None:
    """Batches and their items."""


def _gates() -> None:
    """Gates of deploys."""


def _limits() -> None:
    """Plans, history, usage."""


def _events() -> None:
    """The order in which events were committed."""


def _webhooks() -> None:
    """Who is told of events, and what became of it."""


def _log_streams() -> None:
    """Where logs are sent, and how far they have been."""
