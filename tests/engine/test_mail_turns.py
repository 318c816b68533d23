"""Messages that wait for a slow mail server."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from typing import Any

import pytest

from oneoff.senders.webhook import mail

pytestmark = pytest.mark.anyio
MESSAGE = mail.Message("evt-1", ("ops@example.com",), "subject", "text", datetime(2026, 1, 1, tzinfo=UTC))
SERVER = mail.MailServer("127.0.0.1", 1, "none", "oneoff@example.com")


async def test_a_message_that_was_given_up_before_its_turn_is_not_sent_afterwards(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hanging, tried = threading.Event(), []

    def send(*of: Any) -> mail.Answer:
        tried.append(of)
        return mail.Answer(250)

    monkeypatch.setattr(mail, "_send", send)
    for _ in range(mail._AT_ONCE):
        mail._threads.submit(hanging.wait, 60)
    answers = await asyncio.gather(*(mail.send(SERVER, MESSAGE, 0.1) for _ in range(5)))
    hanging.set()
    assert all(answer.error for answer in answers)
    assert tried == []
    assert (await mail.send(SERVER, MESSAGE)).status_code == 250
    assert len(tried) == 1
