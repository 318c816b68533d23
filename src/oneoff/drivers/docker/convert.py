"""Pure translation between the driver's values and the Engine API's JSON; called by `driver`, `images` and `ending`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from oneoff.core.image import ImageConfig
from oneoff.drivers.driver import ContainerSpec, ContainerState, Exit, Handle

# The only two labels that matter, made and looked for with the same constants.
INSTANCE_LABEL = "dev.oneoff.instance"
RUN_LABEL = "dev.oneoff.run"

# What the engine puts into the environment of an image that sets no PATH.
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_STATES = {
    "created": ContainerState.CREATED,
    "initialized": ContainerState.CREATED,
    "running": ContainerState.RUNNING,
    "paused": ContainerState.RUNNING,
    "restarting": ContainerState.RUNNING,
    "stopping": ContainerState.RUNNING,
    "removing": ContainerState.EXITED,
    "exited": ContainerState.EXITED,
    "stopped": ContainerState.EXITED,
    "dead": ContainerState.EXITED,
}
_LEAST_LOG_BYTES = 1 << 30


def to_create_body(spec: ContainerSpec, instance: str, *, is_podman: bool) -> dict[str, Any]:
    """The body of POST /containers/create. `spec.argv` replaces entrypoint and command of the image."""
    body: dict[str, Any] = {
        "Image": to_engine_ref(spec.image.ref),
        # The first word goes as entrypoint: an empty one would bring the image's own back.
        "Entrypoint": [spec.argv[0]],
        "Cmd": list(spec.argv[1:]),
        "Env": [f"{name}={value}" for name, value in spec.variables.items()],
        "Hostname": spec.hostname,
        "Labels": {**spec.labels, INSTANCE_LABEL: instance, RUN_LABEL: spec.run_id},
        "Tty": False,
        "OpenStdin": False,
        "AttachStdin": False,
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": to_host_config(spec, is_podman=is_podman),
    }
    if spec.user is not None:
        body["User"] = spec.user
    return body


def to_host_config(spec: ContainerSpec, *, is_podman: bool) -> dict[str, Any]:
    """Limits and hardening. The engine's default seccomp profile stays, as nothing here replaces it."""
    memory = spec.resources.memory_bytes
    config: dict[str, Any] = {
        "NetworkMode": to_network_mode(spec.networks),
        "CapDrop": ["ALL"],
        "CapAdd": list(spec.capabilities),
        # Podman takes this word only without a value.
        "SecurityOpt": ["no-new-privileges"],
        "Privileged": False,
        "ReadonlyRootfs": spec.read_only_root,
        "Init": True,
        "Memory": memory,
        # An unset MemorySwap would become twice the memory.
        "MemorySwap": memory,
        "NanoCpus": math.ceil(spec.resources.cpus * 1_000_000_000),
        "PidsLimit": spec.resources.pids,
        "RestartPolicy": {"Name": "no"},
        "AutoRemove": False,
        "LogConfig": to_log_config(spec.log_cap_bytes, is_podman=is_podman),
    }
    if spec.sandbox:
        config["Runtime"] = spec.sandbox
    return config


def to_log_config(cap_bytes: int, *, is_podman: bool) -> dict[str, Any]:
    """Formats that keep every byte, and one file that is not rotated before the run's cap is long passed.

    Each line costs about 30 bytes more than its text, so the file may grow to eight times the cap, at least 1 GiB.
    """
    if is_podman:
        return {"Type": "k8s-file", "Config": {}}
    largest = max(8 * cap_bytes, _LEAST_LOG_BYTES)
    return {"Type": "local", "Config": {"max-size": str(largest), "max-file": "1", "compress": "false"}}


def to_network_mode(networks: Sequence[str]) -> str:
    """The network to create the container in; the others are joined before the start."""
    return networks[0] if networks else "default"


def to_engine_ref(ref: str) -> str:
    """What the engine calls `PreparedImage.ref`."""
    return ref.removeprefix("docker-daemon:")


def to_state(inspected: Mapping[str, Any]) -> ContainerState:
    """From the JSON of GET /containers/ID/json. A status we do not know counts as started: never start it again."""
    state = inspected["State"]
    found = _STATES.get(state["Status"], ContainerState.UNKNOWN)
    if found is ContainerState.EXITED and not was_started(inspected):
        return ContainerState.CREATED
    if found is ContainerState.CREATED and was_started(inspected):
        return ContainerState.EXITED
    return found


def was_started(inspected: Mapping[str, Any]) -> bool:
    """Has the engine ever started it? Year 1 is Go's zero time: never."""
    return to_instant(inspected["State"].get("StartedAt") or "") is not None


def to_exit(inspected: Mapping[str, Any], lag: timedelta) -> Exit:
    """Facts of an exited container, on our clock, which is `lag` before the engine's."""
    state = inspected["State"]
    started = to_instant(state["StartedAt"])
    finished = to_instant(state.get("FinishedAt") or "") or started
    assert started is not None
    assert finished is not None
    return Exit(
        code=int(state["ExitCode"]),
        oom_seen=bool(state.get("OOMKilled")),
        started_at=started + lag,
        finished_at=max(started, finished) + lag,
    )


def to_handle(inspected: Mapping[str, Any], node: str) -> Handle:
    """From the JSON of GET /containers/ID/json."""
    labels = inspected["Config"].get("Labels") or {}
    return Handle("docker", node, inspected["Name"].removeprefix("/"), inspected["Id"], labels.get(RUN_LABEL, ""))


def to_listed_handle(listed: Mapping[str, Any], node: str) -> Handle:
    """From one item of GET /containers/json."""
    labels = listed.get("Labels") or {}
    names = listed.get("Names") or [""]
    return Handle("docker", node, names[0].removeprefix("/"), listed["Id"], labels.get(RUN_LABEL, ""))


def is_ours(labels: Mapping[str, str] | None, instance: str) -> bool:
    """Exactly our instance: filters of engines are hints, and a stranger's label may begin like ours."""
    return bool(labels) and labels is not None and labels.get(INSTANCE_LABEL) == instance and RUN_LABEL in labels


def to_image_config(inspected: Mapping[str, Any]) -> ImageConfig:
    """From the JSON of GET /images/NAME/json."""
    config = inspected.get("Config") or {}
    pairs = (item.partition("=") for item in config.get("Env") or [])
    return ImageConfig(
        entrypoint=tuple(config.get("Entrypoint") or ()),
        command=tuple(config.get("Cmd") or ()),
        variables={name: value for name, _, value in pairs},
        working_dir=config.get("WorkingDir") or "",
        user=config.get("User") or "",
    )


def to_instant(text: str) -> datetime | None:
    """RFC 3339 in UTC; None for the zero time."""
    if not text or text.startswith("0001-01-01"):
        return None
    return datetime.fromisoformat(text).astimezone(UTC)
