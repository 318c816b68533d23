"""Everything an operator can set: read once, from options, environment and config file, into frozen values.

The order is: option of `oneoff serve`, then `ONEOFF_<NAME>` in the environment, then the config file (TOML), then the
default. `docs/settings.md` is generated from SETTINGS.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from oneoff.core.addresses import Network, parse_networks
from oneoff.core.limits import parse_bytes, parse_duration
from oneoff.errors import OneoffError, SettingsInvalid
from oneoff.offers import read_offers

_CONFIG_FILE = Path("/etc/oneoff/config.toml")
# Scheme -> TLS (as the mail sender knows it) and the usual port.
MAIL_PORTS = {"smtp": ("start", 587), "smtps": ("smtps", 465), "smtp+plain": ("none", 25)}
DRIVERS = ("auto", "docker", "oci")


def _default_data_dir() -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/oneoff")
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local/share") / "oneoff"


def _setting(default: Any, parse: Callable[[str], Any], text: str) -> Any:
    """A setting: its default (a value, or a function of nothing), how it is read, and its line in the docs."""
    metadata = {"parse": parse, "text": text}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def _count(text: str) -> int:
    if not text.isdigit() or not 1 <= int(text) <= 10_000:
        raise ValueError("write a number from 1 to 10000")
    return int(text)


def _driver(text: str) -> str:
    if text not in DRIVERS:
        raise ValueError(f"write one of {', '.join(DRIVERS)}")
    return text


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"write one of {', '.join(words)}")
        return text

    return parse


def _grace(text: str) -> int:
    seconds = parse_duration(text)
    if seconds > 300:
        raise ValueError("at most 5m")
    return seconds


def _listen(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65_535:
        raise ValueError("write HOST:PORT, for example 127.0.0.1:8080")
    return host.strip("[]"), int(port)


def _web_address(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("https", "http") or not url.hostname:
        raise ValueError("write https://HOST, with a path if there is one")
    return text.rstrip("/")


def _mail_address(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in MAIL_PORTS or not url.hostname or url.path not in ("", "/"):
        raise ValueError("write smtp://user@host:587, smtps://user@host:465 or smtp+plain://host:25")
    if url.password is not None:
        raise ValueError("put the password into a file of its own (smtp_password_file), not into the address")
    return text


def _database(text: str) -> str:
    if not text.startswith(("postgresql://", "postgres://", "sqlite:///")):
        raise ValueError("write postgresql://USER@HOST/DATABASE")
    return text


@dataclass(frozen=True, slots=True)
class Settings:
    data_dir: Path = _setting(_default_data_dir, Path, "Folder for the embedded database, logs, images and keys.")
    database_url: str | None = _setting(
        None, _database, "`postgresql://…` instead of the embedded SQLite database in the data folder."
    )
    driver: str = _setting(
        "auto", _driver, "What makes containers: `auto` takes Docker if its socket answers, else `oci`."
    )
    docker_host: str | None = _setting(
        None,
        str,
        "Docker's socket, `unix:///path` or `tcp://host:port`; by default DOCKER_HOST, then Docker's own default.",
    )
    oci_runtime: str | None = _setting(
        None, str, "`crun` or `runc` for the oci driver; by default crun where it works, else runc."
    )
    listen: tuple[str, int] = _setting(
        lambda: ("127.0.0.1", 8080), _listen, "Address of the API. Port 0 takes a free one."
    )
    slots: int = _setting(16, _count, "Containers running at once on this node.")
    grace_seconds: int = _setting(10, _grace, "Time between TERM and KILL when a run is ended; at most `5m`.")
    log_cap_bytes: int = _setting(
        256 << 20, parse_bytes, "Output kept of one run: the first half of it and the latest rest."
    )
    disk_reserve_bytes: int = _setting(
        512 << 20, parse_bytes, "New runs are refused while the data folder has less free."
    )
    image_budget_bytes: int = _setting(
        20 << 30, parse_bytes, "Disk that images no live deploy or waiting run needs may keep."
    )
    start_timeout_seconds: int = _setting(600, parse_duration, "A pull or start that takes longer fails.")
    node_away_seconds: int = _setting(600, parse_duration, "After so long without its node a going run is `lost`.")
    plans_file: Path | None = _setting(
        None, Path, "TOML file of the plans, instead of the built-in Starter, Pro, Team."
    )
    instance_types_file: Path | None = _setting(
        None, Path, "TOML file of the instance types, instead of the built-in catalogue."
    )
    events_kept_seconds: int = _setting(90 * 86_400, parse_duration, "Events older than that are dropped.")
    webhook_networks: tuple[Network, ...] = _setting(
        (),
        parse_networks,
        "Private networks that webhooks may reach, and without TLS: `10.0.0.0/8, 127.0.0.1`, or `all`.",
    )
    public_url: str | None = _setting(
        None, _web_address, "Where people reach this server, `https://oneoff.example.com`; for links in mail and chat."
    )
    smtp_url: str | None = _setting(
        None,
        _mail_address,
        "Mail server: `smtp://user@host:587` with STARTTLS, `smtps://user@host:465`, or `smtp+plain://host:25`.",
    )
    smtp_password_file: Path | None = _setting(None, Path, "File with the password for the mail server.")
    smtp_from: str | None = _setting(None, str, "Sender of mail; by default `oneoff@` and the name of this machine.")
    metrics: str = _setting(
        "open",
        _one_of("open", "token", "off"),
        "Who may read `/metrics`: everybody who reaches the API (`open`), holders of an API token (`token`), or nobody "
        "(`off`).",
    )
    traces_url: str | None = _setting(
        None,
        str,
        "Where spans of requests and runs go by OTLP over HTTP, for example `http://127.0.0.1:4318/v1/traces`; by "
        "default OpenTelemetry's own variables say so, else there are none.",
    )
    log_format: str = _setting(
        "logfmt", _one_of("logfmt", "json"), "How the server writes its own log to stderr: `logfmt`, or `json` lines."
    )
    log_stream_confirm_seconds: int = _setting(
        30,
        parse_duration,
        "Lines sent by syslog count as sent when their connection lived on for so long.",
    )
    log_stream_budget_bytes: int = _setting(
        4 << 30, parse_bytes, "Stored output that may wait for one log stream; the oldest lines beyond it are dropped."
    )

    @property
    def store_url(self) -> str:
        return self.database_url or f"sqlite:///{self.data_dir / 'oneoff.db'}"

    @property
    def logs_dir(self) -> Path:
        return self.data_dir / "logs"


SETTINGS = fields(Settings)


def load_settings(overrides: Mapping[str, object], config: Path | None = None) -> Settings:
    """`overrides` are options by the names of Settings' fields, None = not given; their values may be text or parsed.
    Raises SettingsInvalid with all problems together."""
    problems: list[str] = []
    from_file = _read_config(config, problems)
    values: dict[str, Any] = {}
    for each in SETTINGS:
        source, raw = _find(each.name, overrides, from_file)
        if raw is None:
            continue
        try:
            values[each.name] = each.metadata["parse"](raw) if isinstance(raw, str) else raw
        except (ValueError, OneoffError) as problem:
            problems.append(f"{source}: {_without_password(str(raw))!r} is wrong: {problem}")
    problems += [f"{name} in the config file is no setting" for name in from_file if name not in _names()]
    problems += _problems_of_files(values)
    if problems:
        raise SettingsInvalid(problems)
    return Settings(**values)


def _without_password(text: str) -> str:
    return re.sub(r"://[^@/]*@", "://…@", text)


def environment_name(setting: str) -> str:
    """`data_dir` -> `ONEOFF_DATA_DIR`."""
    return f"ONEOFF_{setting.upper()}"


def _problems_of_files(values: Mapping[str, Any]) -> tuple[str, ...]:
    """Of the files of plans and of instance types: told with all others. The server reads them again, for good."""
    try:
        read_offers(values.get("plans_file"), values.get("instance_types_file"))
    except SettingsInvalid as problem:
        return problem.problems
    return ()


def _names() -> set[str]:
    return {each.name for each in SETTINGS}


def _find(name: str, overrides: Mapping[str, object], from_file: Mapping[str, Any]) -> tuple[str, Any]:
    if overrides.get(name) is not None:
        # Options of `oneoff serve` are the first words of their settings.
        return f"--{name.partition('_')[0]}", overrides[name]
    if (text := os.environ.get(environment_name(name))) is not None:
        return environment_name(name), text
    value = from_file.get(name)
    return f"{name} in the config file", str(value) if value is not None else None


def _read_config(path: Path | None, problems: list[str]) -> dict[str, Any]:
    if path is None and not _CONFIG_FILE.exists():
        return {}
    file = path or _CONFIG_FILE
    try:
        return tomllib.loads(file.read_text())
    except OSError as problem:
        problems.append(f"the config file {file} cannot be read: {problem.strerror}")
        return {}
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as problem:
        problems.append(f"the config file {file} is no TOML: {problem}")
        return {}
