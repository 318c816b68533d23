"""A private PostgreSQL: initdb, one server on a loopback port and a Unix socket, a fresh database per test.

Real except for one thing: it does not wait for the disk (`fsync=off`), because its data never outlives the tests.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from urllib.parse import quote

from tests.rig import process
from tests.rig.process import Slot

# PostgreSQL refuses to run as root. Debian's package makes this user.
_OWNER = "postgres"
_PASSWORD = "p@ss/word"  # characters that a URL must quote, on purpose
_SETTINGS = {
    "fsync": "off",
    "full_page_writes": "off",
    "max_connections": "100",
    "shared_buffers": "64MB",
    "autovacuum_naptime": "10min",
    "timezone": "UTC",
}
_BROUGHT_BY_CONTAINERS = "host all all 10.0.0.0/8 scram-sha-256\n"


class Postgres:
    """A running server. URLs name the superuser, with a password; they work from any process of this machine."""

    def __init__(self, folder: Path, listen: str) -> None:
        self.folder = folder
        self.port = process.free_port()
        self.log = folder / "postgres.log"
        self._listen = listen
        self._numbers = count(1)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise RuntimeError("the server is not running")
        return self._process.pid

    def url(self, database: str = "postgres", host: str = "127.0.0.1") -> str:
        return f"postgresql://{_OWNER}:{quote(_PASSWORD, safe='')}@{host}:{self.port}/{database}"

    def fresh_database(self, template: str = "template1") -> str:
        """The URL of a new database: empty, or a copy of one that nobody is connected to."""
        name = f"test_{next(self._numbers)}"
        # Copying files takes a quarter of what copying them through the log does, the default.
        self.execute(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY FILE_COPY")
        return self.url(name)

    def drop_database(self, url: str) -> None:
        """Also when somebody is still connected."""
        self.execute(f"DROP DATABASE IF EXISTS {url.rpartition('/')[2]} WITH (FORCE)")

    def execute(self, statement: str, database: str = "postgres") -> str:
        """Run one statement with psql; returns its rows, unaligned."""
        argv: list[str | Path] = [
            _program("psql"),
            "-XAtq",
            "-v",
            "ON_ERROR_STOP=1",
            "-c",
            statement,
            self.url(database),
        ]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{statement}: {done.stderr.strip()}")
        return done.stdout.strip()

    def initialise(self) -> None:
        """Make the data folder; about a second."""
        secret = self.folder / "password"
        secret.write_text(_PASSWORD)
        secret.chmod(0o644)
        argv: list[str | Path] = [
            _program("initdb"),
            "--pgdata",
            self.folder / "data",
            "--username",
            _OWNER,
            "--pwfile",
            secret,
        ]
        argv += ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions"]
        subprocess.run(argv, check=True, capture_output=True, cwd=self.folder, **_as_owner())  # type: ignore[call-overload]
        with (self.folder / "data" / "pg_hba.conf").open("a") as rules:
            rules.write(_BROUGHT_BY_CONTAINERS)

    def start(self) -> None:
        settings = _SETTINGS | {"listen_addresses": self._listen, "port": str(self.port)}
        settings["unix_socket_directories"] = str(self.folder)
        argv: list[str | Path] = [_program("postgres"), "-D", self.folder / "data"]
        argv += [word for key, value in settings.items() for word in ("-c", f"{key}={value}")]
        self._process = process.start(argv, self.log, cwd=self.folder, **_as_owner())
        process.wait_until_ready(self._answers, self._process, self.log, 30)

    def stop(self) -> None:
        """Ends it at once, dropping connections."""
        if self._process is not None:
            process.end(self._process, 10, signal.SIGQUIT)
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    def _answers(self) -> bool:
        argv: list[str | Path] = [_program("pg_isready"), "--quiet", "--host=127.0.0.1", f"--port={self.port}"]
        return subprocess.run(argv, check=False).returncode == 0


@contextmanager
def private_postgres(listen: str = "127.0.0.1") -> Iterator[Postgres]:
    """A PostgreSQL server; `listen="*"` lets containers reach it at their gateway."""
    with process.slot("postgres", _clean) as slot:
        # Not below pytest's folders: those are closed to other users.
        shutil.chown(slot.folder, _OWNER, _OWNER)
        server = Postgres(slot.folder, listen)
        server.initialise()
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _program(name: str) -> Path:
    """Debian keeps the server's programs out of PATH, in a folder per major version."""
    newest = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: int(folder.parent.name))
    if newest and (newest[-1] / name).exists():
        return newest[-1] / name
    found = shutil.which(name)
    if found is None:
        raise RuntimeError(f"{name} is missing; `apt-get install postgresql-15` brings it")
    return Path(found)


def _as_owner() -> dict[str, object]:
    return {"user": _OWNER, "group": _OWNER, "extra_groups": []} if os.geteuid() == 0 else {}


def _clean(slot: Slot) -> None:
    """A server whose tests were killed: its first process, by the pid it wrote, and only if it is ours."""
    record = slot.folder / "data" / "postmaster.pid"
    with suppress(OSError, ValueError):
        pid = int(record.read_text().splitlines()[0])
        if pid in process.pids_naming(f"{slot.folder}/"):
            process.kill(process.pids_below([pid]))
