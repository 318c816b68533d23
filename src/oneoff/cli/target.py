"""Which server the CLI talks to and with which token: flags, environment, login, the local server. Used by `client`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from oneoff.cli.problems import CliError

DEFAULT_URL = "http://127.0.0.1:8080"
_SYSTEM_NOTE = Path("/run/oneoff/server.json")


@dataclass(frozen=True, slots=True)
class Target:
    """`source` says for people where the address came from."""

    url: str
    token: str | None = field(repr=False)
    source: str
    is_local: bool = False  # found through the state file of a local server

    @property
    def is_explicit(self) -> bool:
        """Somebody named it, so it should be there."""
        return not self.is_local and self.url != DEFAULT_URL

    @property
    def is_loopback(self) -> bool:
        return urlsplit(self.url).hostname in {"127.0.0.1", "::1", "localhost"}


@dataclass(frozen=True, slots=True)
class LocalServer:
    """What a running server writes about itself, and where that was found."""

    url: str
    data_dir: Path
    pid: int
    file: Path

    @property
    def token_file(self) -> Path:
        return self.data_dir / "admin-token"


def find_target(url: str | None = None, token: str | None = None) -> Target:
    """`url` and `token` are what flags gave. A stored token is only ever sent to the address it was stored for."""
    logins = read_logins()
    local = find_local_server()
    address, source = _choose_address(url, logins, local)
    token = token or os.environ.get("ONEOFF_TOKEN") or _stored_token(address, logins, local)
    return Target(address, token, source, is_local=local is not None and source.endswith(str(local.file)))


def check_url(url: str) -> str:
    """The address without a slash at its end. Raises CliError for what is no http(s) address."""
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise CliError(f"{url!r} is no address of a server: write for example https://oneoff.example.com")
    return url.rstrip("/")


def _choose_address(url: str | None, logins: Mapping[str, Any], local: LocalServer | None) -> tuple[str, str]:
    if url:
        return check_url(url), "the address of --url"
    if from_environment := os.environ.get("ONEOFF_URL"):
        return check_url(from_environment), "the address of ONEOFF_URL"
    if current := logins.get("current"):
        return str(current), "the address of `oneoff login`"
    if local:
        return local.url, f"the address in {local.file}"
    return DEFAULT_URL, "the default address; no local server was found"


def _stored_token(address: str, logins: Mapping[str, Any], local: LocalServer | None) -> str | None:
    if known := logins.get("servers", {}).get(address):
        return str(known["token"])
    if local and local.url == address:
        try:
            return local.token_file.read_text().strip()
        except OSError as problem:
            raise CliError(
                f"the admin token of the local server is in {local.token_file}, and cannot be read "
                f"({problem.strerror}): run as the server's user, set ONEOFF_TOKEN, or `oneoff login {address}`"
            ) from problem
    return None


def find_local_server() -> LocalServer | None:
    """The server of this user, else the one of the machine. Notes of other users, root excepted, are not believed:
    they could name a server of their own beside our data folder, and be sent the token that lies in it."""
    for file in _notes():
        try:
            if file.stat().st_uid not in {0, os.geteuid()}:
                continue
            note = json.loads(file.read_text())
            return LocalServer(check_url(note["url"]), Path(note["data_dir"]), int(note["pid"]), file)
        except (FileNotFoundError, PermissionError):
            continue
        except (OSError, ValueError, KeyError, TypeError) as problem:
            raise CliError(f"{file} cannot be understood ({problem}): remove it, or set ONEOFF_URL") from problem
    return None


def _notes() -> list[Path]:
    from oneoff.presence import NOTE, runtime_dir

    own = os.environ.get("XDG_RUNTIME_DIR")
    return [*([Path(own) / "oneoff" / NOTE] if own else []), runtime_dir() / NOTE, _SYSTEM_NOTE]


def login_file() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "oneoff" / "login.json"


def read_logins() -> dict[str, Any]:
    """`{"current": URL, "servers": {URL: {"token": …}}}`; {} when nobody has logged in."""
    try:
        logins = json.loads(login_file().read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as problem:
        raise CliError(f"{login_file()} cannot be read ({problem}): remove it and `oneoff login` again") from problem
    return logins if isinstance(logins, dict) else {}


def save_login(url: str, token: str) -> Path:
    """Remember the token, readable by this user alone, and make the server the current one."""
    logins = read_logins()
    logins.setdefault("servers", {})[url] = {"token": token}
    logins["current"] = url
    file = login_file()
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = file.with_suffix(f".{os.getpid()}")
    # Made with its final mode, so that there is no moment in which others can read it.
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as out:
        json.dump(logins, out, indent=2)
    fresh.replace(file)
    return file
