"""The test rig itself: what the other tests stand on must be real and must leave nothing behind."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.rig import images, process
from tests.rig.dockerd import Dockerd, private_dockerd
from tests.rig.podman import Podman
from tests.rig.postgres import Postgres
from tests.rig.registry import PASSWORD, USER, Registry


def inspect(image: str, *options: str) -> dict[str, object]:
    done = subprocess.run(["skopeo", "inspect", *options, image], check=True, capture_output=True)
    return dict(json.loads(done.stdout))


@pytest.mark.parametrize("tag", images.TAGS)
def test_every_tag_is_an_image_that_skopeo_reads_by_the_digest_we_tell(tag: str) -> None:
    assert inspect(images.image_ref(tag))["Digest"] == images.manifest_digest(tag)


def test_images_are_the_same_bytes_when_made_again() -> None:
    script = "from tests.rig import images; print(images.image_id('wrapper'))"
    root = Path(__file__).resolve().parents[1]
    again = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, cwd=root)
    assert again.stdout.strip() == images.image_id("wrapper")


def test_the_base_image_runs_in_a_private_docker_under_its_image_id(dockerd: Dockerd) -> None:
    dockerd.load(images.docker_archive("base"))
    assert dockerd.docker("run", "--rm", "oneoff-test/base:1") == "default command\n"
    assert dockerd.docker("inspect", "--format", "{{.Id}}", "oneoff-test/base:1").strip() == images.image_id("base")


def test_the_image_without_a_shell_has_none(dockerd: Dockerd) -> None:
    dockerd.load(images.docker_archive("noshell"))
    with pytest.raises(RuntimeError, match="executable file not found"):
        dockerd.docker("run", "--rm", "oneoff-test/noshell:1", "sh")


def test_a_later_layer_removes_a_file_of_an_earlier_one(podman: Podman) -> None:
    podman.load(images.docker_archive("base"))
    assert "removed" not in podman.podman("run", "--rm", "oneoff-test/base:1", "ls", "/srv").split()


def test_a_container_survives_the_kill_of_a_dockerd_with_live_restore(tmp_path: Path) -> None:
    with private_dockerd(tmp_path, live_restore=True) as engine:
        engine.load(images.docker_archive("base"))
        name = engine.docker("run", "--detach", "oneoff-test/base:1", "sleep", "600").strip()
        engine.kill9()
        engine.start()
        assert engine.docker("inspect", "--format", "{{.State.Running}}", name).strip() == "true"


def test_a_private_docker_leaves_nothing_behind_even_when_it_was_killed(tmp_path: Path) -> None:
    with private_dockerd(tmp_path) as engine:
        engine.load(images.docker_archive("base"))
        engine.docker("network", "create", "shop")
        engine.docker("run", "--detach", "--network", "shop", "oneoff-test/base:1", "sleep", "600")
        engine.kill9()
    folder = engine.socket.parent
    assert process.pids_naming(f"{folder}/") == []
    assert process.mounts_below(folder) + process.mounts_below(tmp_path) == []
    assert process.cgroup_folders(engine.cgroup) == []
    assert not folder.exists()
    links = subprocess.run(["ip", "-brief", "addr"], check=True, capture_output=True, text=True).stdout
    assert engine.gateway not in links


def test_the_locked_registry_takes_the_password_and_nobody_without(locked_registry: Registry) -> None:
    name = f"docker://{locked_registry.push('base', 'shop/web:1')}"
    with pytest.raises(subprocess.CalledProcessError):
        inspect(name, "--tls-verify=false")
    assert inspect(name, "--tls-verify=false", "--creds", f"{USER}:{PASSWORD}")


def test_a_registry_keeps_the_digest_of_the_layout(registry: Registry) -> None:
    name = registry.push("base", "shop/rig:1")
    assert inspect(f"docker://{name}", "--tls-verify=false")["Digest"] == images.manifest_digest("base")


def test_each_test_gets_an_empty_database_of_its_own(postgres: Postgres, postgres_url: str) -> None:
    other = postgres.fresh_database()
    postgres.execute("CREATE TABLE t ()", other.rpartition("/")[2])
    count = "SELECT count(*) FROM information_schema.tables WHERE table_name = 't'"
    assert postgres.execute(count, postgres_url.rpartition("/")[2]) == "0"
    postgres.drop_database(other)
