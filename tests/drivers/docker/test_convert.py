"""The pure parts of the docker driver, by equality of values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from oneoff.core.image import ImageConfig
from oneoff.drivers.docker import convert
from oneoff.drivers.docker.executable import to_candidates, to_interpreter
from oneoff.drivers.docker.networks import find_missing
from oneoff.drivers.docker.users import Identity, to_identity
from oneoff.drivers.driver import ContainerSpec, ContainerState, Exit, Handle, PreparedImage, Resources

SPEC = ContainerSpec(
    run_id="run-1",
    name="oneoff-run-1",
    image=PreparedImage("sha256:aa", "docker-daemon:localhost/oneoff/layout:sha256-aa", ImageConfig()),
    argv=("python", "manage.py", "migrate"),
    variables={"SECRET": "a=b\nc"},
    resources=Resources(memory_bytes=512 << 20, cpus=0.5, pids=100),
    networks=("shop", "db"),
    network_scope="srv-1",
    hostname="run-1",
    log_dir=Path("/nowhere"),
    log_cap_bytes=256 << 20,
    grace_seconds=10,
    deadline=None,
    labels={"oneoff.service": "shop/web"},
)


def test_a_spec_becomes_a_hardened_create_body() -> None:
    assert convert.to_create_body(SPEC, "inst", is_podman=False) == {
        "Image": "localhost/oneoff/layout:sha256-aa",
        "Entrypoint": ["python"],
        "Cmd": ["manage.py", "migrate"],
        "Env": ["SECRET=a=b\nc"],
        "Hostname": "run-1",
        "Labels": {"oneoff.service": "shop/web", "dev.oneoff.instance": "inst", "dev.oneoff.run": "run-1"},
        "Tty": False,
        "OpenStdin": False,
        "AttachStdin": False,
        "StopSignal": "SIGTERM",
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": {
            "NetworkMode": "shop",
            "CapDrop": ["ALL"],
            "CapAdd": [],
            "SecurityOpt": ["no-new-privileges"],
            "Privileged": False,
            "ReadonlyRootfs": False,
            "Init": True,
            "Memory": 512 << 20,
            "MemorySwap": 512 << 20,
            "NanoCpus": 500_000_000,
            "PidsLimit": 100,
            "RestartPolicy": {"Name": "no"},
            "AutoRemove": False,
            "LogConfig": {
                "Type": "local",
                "Config": {"max-size": str(2048 << 20), "max-file": "1", "compress": "false"},
            },
        },
    }


def test_options_reach_the_create_body() -> None:
    spec = replace(SPEC, user="app", read_only_root=True, sandbox="runsc", capabilities=("CHOWN",), networks=())
    body = convert.to_create_body(spec, "inst", is_podman=True)
    host = body["HostConfig"]
    assert body["User"] == "app"
    assert (host["ReadonlyRootfs"], host["Runtime"], host["CapAdd"]) == (True, "runsc", ["CHOWN"])
    assert host["NetworkMode"] == "default"
    assert host["LogConfig"] == {"Type": "k8s-file", "Config": {}}


def test_no_label_of_a_spec_can_replace_ours() -> None:
    spec = replace(SPEC, labels={convert.INSTANCE_LABEL: "other", convert.RUN_LABEL: "other"})
    labels = convert.to_create_body(spec, "inst", is_podman=False)["Labels"]
    assert labels == {convert.INSTANCE_LABEL: "inst", convert.RUN_LABEL: "run-1"}


ZERO = "0001-01-01T00:00:00Z"
STARTED, FINISHED = "2026-11-22T10:16:53.999396068Z", "2026-11-22T11:16:57.003280127+01:00"


@pytest.mark.parametrize(
    ("status", "started", "state"),
    [
        ("created", ZERO, ContainerState.CREATED),
        ("created", STARTED, ContainerState.EXITED),
        ("running", STARTED, ContainerState.RUNNING),
        ("paused", STARTED, ContainerState.RUNNING),
        ("exited", STARTED, ContainerState.EXITED),
        ("exited", ZERO, ContainerState.CREATED),
        ("dead", STARTED, ContainerState.EXITED),
        ("something new", STARTED, ContainerState.UNKNOWN),
    ],
)
def test_the_engines_status_and_start_time_give_the_state(status: str, started: str, state: ContainerState) -> None:
    assert convert.to_state({"State": {"Status": status, "StartedAt": started}}) is state


def test_inspect_json_becomes_exit_facts() -> None:
    state = {"ExitCode": 137, "OOMKilled": True, "StartedAt": STARTED, "FinishedAt": FINISHED}
    lag = timedelta(minutes=2)
    assert convert.to_exit({"State": state}, lag) == Exit(
        code=137,
        oom_seen=True,
        started_at=datetime(2026, 11, 22, 10, 18, 53, 999396, UTC),
        finished_at=datetime(2026, 11, 22, 10, 18, 57, 3280, UTC),
    )


def test_a_handle_is_made_from_inspect_and_from_list_alike() -> None:
    labels = {convert.INSTANCE_LABEL: "inst", convert.RUN_LABEL: "run-1"}
    handle = Handle("docker", "node", "oneoff-run-1", "f" * 64, "run-1")
    inspected: dict[str, Any] = {"Id": "f" * 64, "Name": "/oneoff-run-1", "Config": {"Labels": labels}}
    assert convert.to_handle(inspected, "node") == handle
    listed = {"Id": "f" * 64, "Names": ["/oneoff-run-1"], "Labels": labels}
    assert convert.to_listed_handle(listed, "node") == handle


@pytest.mark.parametrize(
    ("labels", "ours"),
    [
        ({convert.INSTANCE_LABEL: "inst", convert.RUN_LABEL: "r"}, True),
        ({convert.INSTANCE_LABEL: "inst2", convert.RUN_LABEL: "r"}, False),
        ({convert.INSTANCE_LABEL: "ins", convert.RUN_LABEL: "r"}, False),
        ({convert.INSTANCE_LABEL: "inst"}, False),
        ({convert.INSTANCE_LABEL + ".x": "inst", convert.RUN_LABEL: "r"}, False),
        ({}, False),
        (None, False),
    ],
)
def test_only_the_exact_instance_is_ours(labels: dict[str, str] | None, ours: bool) -> None:
    assert convert.is_ours(labels, "inst") is ours


def test_image_json_becomes_an_image_configuration() -> None:
    config = {"Entrypoint": ["/e"], "Cmd": None, "Env": ["A=b=c", "EMPTY="], "WorkingDir": "/w", "User": "app"}
    assert convert.to_image_config({"Config": config}) == ImageConfig(
        ("/e",), (), {"A": "b=c", "EMPTY": ""}, "/w", "app"
    )
    assert convert.to_image_config({"Config": None}) == ImageConfig()


@pytest.mark.parametrize(
    ("argv0", "path", "candidates"),
    [
        ("sh", "/a:/b", ["/a/sh", "/b/sh"]),
        ("sh", "rel::/b", ["/w/rel/sh", "/w/sh", "/b/sh"]),
        ("./sh", "/a", ["/w/./sh"]),
        ("/bin/sh", "/a", ["/bin/sh"]),
        ("", "/a", []),
    ],
)
def test_a_command_is_searched_as_execvp_does(argv0: str, path: str, candidates: list[str]) -> None:
    image = replace(SPEC.image, config=ImageConfig(variables={"PATH": "/image"}, working_dir="/w"))
    assert to_candidates(replace(SPEC, argv=(argv0,), image=image, variables={"PATH": path})) == candidates


def test_the_path_of_the_image_or_the_engines_default_is_used_without_a_variable() -> None:
    image = replace(SPEC.image, config=ImageConfig(variables={"PATH": "/image"}))
    assert to_candidates(replace(SPEC, argv=("x",), image=image, variables={})) == ["/image/x"]
    assert "/usr/bin/x" in to_candidates(replace(SPEC, argv=("x",), variables={}))


def test_interpreters_are_read_from_scripts_and_elf_files() -> None:
    assert to_interpreter(b"#! /usr/bin/env python\n") == "/usr/bin/env"
    assert to_interpreter(b"#!\n") == ""
    assert to_interpreter(b"plain text") == ""
    assert to_interpreter(Path("/bin/ls").read_bytes()[:16384]).startswith("/lib64/ld-linux")
    assert to_interpreter(Path("/bin/busybox").read_bytes()[:16384]) == ""


PASSWD = "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"
GROUP = "root:x:0:\nextra:x:7:app,other\nnogroup:x:65534:\n"


@pytest.mark.parametrize(
    ("user", "capabilities", "identity"),
    [
        ("", (), Identity(0, frozenset({0}), False)),
        ("root", ("DAC_OVERRIDE",), Identity(0, frozenset({0}), True)),
        ("app", ("DAC_OVERRIDE",), Identity(1000, frozenset({1001, 7}), False)),
        ("1000", (), Identity(1000, frozenset({1001, 7}), False)),
        ("app:nogroup", (), Identity(1000, frozenset({65534}), False)),
        ("12:34", (), Identity(12, frozenset({34}), False)),
        ("12", (), Identity(12, frozenset({0}), False)),
    ],
)
def test_a_user_is_looked_up_in_the_images_own_files(
    user: str, capabilities: tuple[str, ...], identity: Identity
) -> None:
    assert to_identity(user, capabilities, PASSWD, GROUP) == identity


@pytest.mark.parametrize(
    ("words", "is_podman", "makes_it"),
    [
        ("network shop_x not found", False, "`docker network create shop_x`"),
        ("failed to set up container networking: network shop_x not found", False, "`docker network create shop_x`"),
        ("unable to find network with name or ID shop_x: network not found", True, "`podman network create shop_x`"),
        ("address already in use", False, None),
    ],
)
def test_a_missing_network_is_known_by_the_words_of_the_engine(
    words: str, is_podman: bool, makes_it: str | None
) -> None:
    found = find_missing(words, is_podman=is_podman)
    assert (found is None) if makes_it is None else makes_it in str(found)
