"""A mail server on a real socket of loopback: as much of SMTP as a client of ours speaks, with STARTTLS and AUTH."""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import Message
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec


@dataclass
class MailServer:
    """`refusals` are answered to RCPT, one after another. `logins` are (user, password, whether under TLS)."""

    tls: ssl.SSLContext | None = None
    port: int = 0
    refusals: list[str] = field(default_factory=list)
    logins: list[tuple[str, str, bool]] = field(default_factory=list)
    messages: list[Message] = field(default_factory=list)
    recipients: list[list[str]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to: list[str] = []
        under_tls = False
        writer.write(b"220 here\r\n")
        try:
            while line := (await reader.readline()).decode().strip():
                word = line.upper().split(" ")[0]
                if word == "EHLO":
                    offers = ["here", "AUTH PLAIN"] + (["STARTTLS"] if self.tls and not under_tls else [])
                    lines = [f"250{'-' if each != offers[-1] else ' '}{each}\r\n" for each in offers]
                    writer.write("".join(lines).encode())
                elif word == "STARTTLS" and self.tls:
                    writer.write(b"220 go\r\n")
                    await writer.drain()
                    await writer.start_tls(self.tls)
                    under_tls = True
                elif word == "AUTH":
                    _, user, password = base64.b64decode(line.split(" ")[2]).decode().split("\0")
                    self.logins.append((user, password, under_tls))
                    writer.write(b"235 welcome\r\n")
                elif word == "RCPT":
                    refusal = self.refusals.pop(0) if self.refusals else ""
                    to += [] if refusal else [line.partition("<")[2].rstrip(">")]
                    writer.write(f"{refusal or '250 fine'}\r\n".encode())
                elif word == "DATA":
                    writer.write(b"354 go\r\n")
                    self.messages.append(message_from_bytes(await reader.readuntil(b"\r\n.\r\n")))
                    self.recipients.append(to)
                    to = []
                    writer.write(b"250 kept\r\n")
                elif word == "QUIT":
                    writer.write(b"221 bye\r\n")
                    break
                else:
                    writer.write(b"250 fine\r\n")
                await writer.drain()
        except (ConnectionError, ssl.SSLError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


@asynccontextmanager
async def mail_server(tls: ssl.SSLContext | None = None) -> AsyncIterator[MailServer]:
    made = MailServer(tls)
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.port = server.sockets[0].getsockname()[1]
    try:
        yield made
    finally:
        server.close()


def make_certificate(folder: Path) -> tuple[Path, ssl.SSLContext]:
    """For localhost: the certificate's file, and a context of a server that has it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = folder / "certificate.pem"
    plain = serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    file.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(pem)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file, folder / "key.pem")
    return file, context
