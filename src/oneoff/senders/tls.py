"""Trust in receivers: the system's certificates, or those that an operator gave. Used by the other senders."""

from __future__ import annotations

import ssl


def make_tls(ca_pem: str | None) -> ssl.SSLContext:
    """Verifies certificate and host name, always. Raises ValueError when `ca_pem` holds no certificate."""
    try:
        context = ssl.create_default_context(cadata=ca_pem)
    except ssl.SSLError as problem:
        raise ValueError("it holds no certificate in PEM form") from problem
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
