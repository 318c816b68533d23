"""`tools/setup.sh`, on machines made of stubs: what it says where it cannot work, and what it installs where it can."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


class Machine:
    """A PATH with nothing but a few real tools and stubs."""

    def __init__(self, folder: Path) -> None:
        self.bin = folder / "bin"
        self.folder = folder
        self.bin.mkdir()
        for tool in ("sh", "cat", "grep", "mkdir", "tail", "rm", "chmod"):
            (self.bin / tool).symlink_to(str(shutil.which(tool)))
        self.stub("uname", "echo Linux")
        self.stub("id", "echo 0")
        self.stub("apt-get", f'echo "$*" >>{folder}/apt-get')
        self.stub("apt-cache", "exit 0")
        self.stub("dpkg-query", '[ "$4" = installed-package ] && echo installed')

    def stub(self, name: str, script: str) -> None:
        (self.bin / name).write_text(f"#!/bin/sh\n{script}\n")
        (self.bin / name).chmod(0o755)

    def run(self, script: str) -> subprocess.CompletedProcess[str]:
        # The rule against starting services is a file of the real machine: not for a test to touch.
        begin = f". {ROOT}/tools/setup.sh; PATH={self.bin}; service_policy={self.folder}/policy; "
        argv: list[str | Path] = [self.bin / "sh", "-euc", begin + script, "./test"]
        environment = {"PATH": str(self.bin)}
        return subprocess.run(argv, env=environment, cwd=self.folder, capture_output=True, text=True, check=False)

    @property
    def apt_get_calls(self) -> list[str]:
        record = self.folder / "apt-get"
        return record.read_text().splitlines() if record.exists() else []


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_without_root_it_says_so_and_names_the_command(machine: Machine) -> None:
    machine.stub("id", "echo 1000")
    done = machine.run("require_debian_root")
    assert done.returncode == 1
    assert "needs root" in done.stderr
    assert "sudo ./test" in done.stderr


def test_on_another_system_it_says_what_would_work(machine: Machine) -> None:
    machine.stub("uname", "echo Darwin")
    done = machine.run("require_debian_root")
    assert done.returncode == 1
    assert "this is Darwin" in done.stderr
    assert "Debian 12" in done.stderr


def test_without_apt_get_it_says_so(machine: Machine) -> None:
    (machine.bin / "apt-get").unlink()
    done = machine.run("require_debian_root")
    assert done.returncode == 1
    assert "apt-get" in done.stderr


def test_only_what_is_missing_is_installed_and_each_with_its_reason(machine: Machine) -> None:
    (machine.folder / "17").mkdir()
    (machine.folder / "17" / "initdb").touch()
    done = machine.run(f"""install_missing <<END
cat                       coreutils         is a command that is here
nothing                   nothing-package   is a command that is not
{machine.folder}/*/initdb postgresql        is a file that is here
{machine.folder}/*/none   file-package      is a file that is not
package:installed-package installed-package is a package that is here
package:other-package     other-package     is a package that is not
END""")
    assert done.returncode == 0, done.stderr
    installs = [call for call in machine.apt_get_calls if "install" in call.split()]
    assert [call.split()[-3:] for call in installs] == [["nothing-package", "file-package", "other-package"]]
    assert "nothing-package: is a command that is not" in done.stdout
    assert not (machine.folder / "policy").exists()


def test_a_machine_that_has_all_asks_apt_get_for_nothing(machine: Machine) -> None:
    done = machine.run("install_missing <<END\ncat coreutils is here\nEND")
    assert (done.returncode, machine.apt_get_calls) == (0, [])


def test_when_apt_get_fails_its_words_and_the_command_are_shown_and_services_may_start_again(machine: Machine) -> None:
    machine.stub("apt-get", "echo E: no space left; exit 100")
    done = machine.run("install_missing <<END\nnothing nothing-package is not here\nEND")
    assert done.returncode == 1
    assert "E: no space left" in done.stderr
    assert "apt-get install nothing-package" in done.stderr
    assert not (machine.folder / "policy").exists()


def test_services_stay_off_while_packages_are_installed(machine: Machine) -> None:
    machine.stub("apt-get", f"cat {machine.folder}/policy >>{machine.folder}/seen")
    machine.run("install_missing <<END\nnothing nothing-package is not here\nEND")
    assert "exit 101" in (machine.folder / "seen").read_text()


def test_a_rule_about_services_that_was_there_before_stays(machine: Machine) -> None:
    (machine.folder / "policy").write_text("mine")
    machine.run("install_missing <<END\nnothing nothing-package is not here\nEND")
    assert (machine.folder / "policy").read_text() == "mine"
