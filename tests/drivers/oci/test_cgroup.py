"""Cgroup files of both versions, over recorded text and trees."""

from __future__ import annotations

from pathlib import Path

from oneoff.drivers.oci import cgroup

HYBRID = """\
24 22 0:21 / /sys/fs/cgroup rw - tmpfs tmpfs rw
25 24 0:22 / /sys/fs/cgroup/memory rw,relatime shared:5 - cgroup cgroup rw,memory
26 24 0:23 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
27 24 0:24 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
28 24 0:22 /docker/abc /mnt/inner rw,relatime - cgroup cgroup rw,memory
"""
UNIFIED = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V2_EVENTS = "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 0\n"
V1_CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"


def test_hierarchies_are_read_from_mountinfo() -> None:
    found = cgroup.parse_hierarchies(HYBRID)
    assert found == [
        ("v1", "/sys/fs/cgroup/memory"),
        ("v1", "/sys/fs/cgroup/cpu,cpuacct"),
        ("v2", "/sys/fs/cgroup/unified"),
    ]
    assert not cgroup.is_unified(found)
    assert cgroup.is_unified(cgroup.parse_hierarchies(UNIFIED))


def test_evidence_of_out_of_memory_is_read_on_both_versions(tmp_path: Path) -> None:
    for name, text, kills in (("memory.events", V2_EVENTS, 2), ("memory.oom_control", V1_CONTROL, 1)):
        folder = tmp_path / name
        folder.mkdir()
        (folder / name).write_text(text)
        assert cgroup.oom_kills([str(tmp_path / "gone"), str(folder)]) == kills
    assert cgroup.oom_kills([str(tmp_path)]) == 0


def test_processes_are_counted_in_groups_below_as_well(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "cgroup.procs").write_text("11\n")
    (tmp_path / "inner/cgroup.procs").write_text("12\n13\n")
    assert cgroup.processes([str(tmp_path), str(tmp_path / "gone")]) == {11, 12, 13}


def test_groups_are_removed_with_those_below(tmp_path: Path) -> None:
    (tmp_path / "group/inner/deep").mkdir(parents=True)
    assert cgroup.remove([str(tmp_path / "group"), str(tmp_path / "gone")])
    assert not (tmp_path / "group").exists()
