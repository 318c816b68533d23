"""A private rsyslog that takes syslog over TLS on loopback and appends each message as it came to a file."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.rig import process

# The form of docs/log-streams.md, but for paths and the address.
_CONFIGURATION = """\
global(
    workDirectory="{folder}"
    defaultNetstreamDriver="ossl"
    defaultNetstreamDriverCAFile="{folder}/cert.pem"
    defaultNetstreamDriverCertFile="{folder}/cert.pem"
    defaultNetstreamDriverKeyFile="{folder}/key.pem"
)
module(load="imtcp" streamDriver.name="ossl" streamDriver.mode="1" streamDriver.authMode="anon")
input(type="imtcp" address="127.0.0.1" port="{port}")
template(name="raw" type="string" string="%rawmsg%\\n")
action(type="omfile" file="{folder}/messages" template="raw")
"""


class Rsyslog:
    """`messages` has what came, also what came before a restart."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = process.free_port()
        self.ca = folder / "cert.pem"
        self._process: subprocess.Popen[bytes] | None = None
        make_certificate(folder)
        (folder / "rsyslog.conf").write_text(_CONFIGURATION.format(folder=folder, port=self.port))

    def start(self) -> None:
        argv: list[str | Path] = ["rsyslogd", "-n", "-f", self.folder / "rsyslog.conf", "-i", self.folder / "pid"]
        self._process = process.start(argv, self.folder / "log")
        process.wait_until_ready(self._listens, self._process, self.folder / "log", 20)

    def stop(self) -> None:
        if self._process is not None:
            process.end(self._process)
        self._process = None
        (self.folder / "pid").unlink(missing_ok=True)

    def messages(self) -> list[bytes]:
        file = self.folder / "messages"
        return file.read_bytes().splitlines() if file.exists() else []

    def _listens(self) -> bool:
        return process.accepts(("127.0.0.1", self.port))


def make_certificate(folder: Path) -> None:
    """cert.pem and key.pem for 127.0.0.1; the certificate is its own CA."""
    argv: list[str | Path] = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    argv += ["-nodes", "-days", "2", "-subj", "/CN=rsyslog", "-addext", "subjectAltName=IP:127.0.0.1"]
    argv += ["-keyout", folder / "key.pem", "-out", folder / "cert.pem"]
    subprocess.run(argv, check=True, capture_output=True)
