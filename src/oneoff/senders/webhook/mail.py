"""One message through the operator's mail server (SMTP). Used by the engine's deliveries.

The standard library's client, in a thread of its own pool: imported when the first message is sent.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime

from oneoff.core.webhook import Answer

LIMIT_SECONDS = 15.0
_AT_ONCE = 2
_threads = ThreadPoolExecutor(_AT_ONCE, "mail")


@dataclass(frozen=True, slots=True)
class MailServer:
    """`tls`: `start` (STARTTLS, demanded), `smtps` (from the first byte), or `none`."""

    host: str
    port: int
    tls: str
    sender: str
    user: str | None = None
    password: str | None = None

    def __repr__(self) -> str:
        return f"MailServer({self.host}:{self.port})"


@dataclass(frozen=True, slots=True)
class Message:
    """`id` is that of the event and the webhook: what is sent again after a crash is the same message."""

    id: str
    to: tuple[str, ...]
    subject: str
    text: str
    at: datetime


async def send(server: MailServer, message: Message, limit: float = LIMIT_SECONDS) -> Answer:
    """What came of it; never raises for what the mail server does. `limit` is for each step of the conversation, twice
    that for all of it."""
    work = asyncio.get_running_loop().run_in_executor(_threads, _send, server, message, limit)
    try:
        # Not shielded: one that has not had its turn by then must not be sent later, as it is going to be tried again.
        return await asyncio.wait_for(work, 2 * limit)
    except TimeoutError:
        return Answer(error=f"the mail server took more than {2 * limit:g} s")


def _send(server: MailServer, message: Message, limit: float) -> Answer:
    import smtplib
    import ssl

    context = ssl.create_default_context()
    try:
        with (
            smtplib.SMTP_SSL(server.host, server.port, timeout=limit, context=context)
            if server.tls == "smtps"
            else smtplib.SMTP(server.host, server.port, timeout=limit)
        ) as client:
            if server.tls == "start":
                client.starttls(context=context)
            if server.user is not None and server.password is not None:
                client.login(server.user, server.password)
            refused = client.send_message(_to_mail(server, message))
    except smtplib.SMTPRecipientsRefused as problem:
        return _refused(problem.recipients)
    except smtplib.SMTPResponseException as problem:
        why = f"the mail server refused it ({type(problem).__name__})"
        return Answer(problem.smtp_code, why, _shown(problem.smtp_error))
    except (smtplib.SMTPException, OSError, ValueError) as problem:
        return Answer(error=f"the mail server cannot be used: {str(problem) or type(problem).__name__}")
    # Who was not refused has the message: sending it again would give it to them twice.
    return Answer(250, None, _refused(refused).error if refused else None)


def _refused(recipients: dict[str, tuple[int, bytes]]) -> Answer:
    code, words = next(iter(recipients.values()))
    return Answer(code, f"refused for {', '.join(sorted(recipients))}", _shown(words))


def _shown(words: bytes | str) -> str:
    """How the answer begins. PostgreSQL takes no NUL."""
    text = words if isinstance(words, str) else words.decode(errors="replace")
    return text.replace("\0", "\ufffd")[:1000]


def _to_mail(server: MailServer, message: Message):  # type: ignore[no-untyped-def]
    from email.message import EmailMessage
    from email.utils import format_datetime

    mail = EmailMessage()
    mail["Subject"] = message.subject[:200]
    mail["From"] = server.sender
    mail["To"] = ", ".join(message.to)
    mail["Date"] = format_datetime(message.at)
    mail["Message-ID"] = f"<{message.id}@oneoff>"
    mail["Auto-Submitted"] = "auto-generated"  # RFC 3834: no automatic replies, please
    mail.set_content(message.text)
    return mail
