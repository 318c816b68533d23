"""Seccomp programs made beforehand are those that the runtime would make."""

from __future__ import annotations

import base64
import ctypes
import platform
import socket
from typing import Any

import pytest

from oneoff.drivers.oci import filters, runtime
from oneoff.drivers.oci.filters import Filters, to_program
from tests.drivers.oci.conftest import Workbench

PROFILE = runtime.read_seccomp_profile()
_SOCKET = 41


@pytest.mark.anyio
@pytest.mark.parametrize("capabilities", [(), ("CHOWN", "SETUID")])
async def test_a_program_is_byte_for_byte_what_crun_makes(
    oci: Workbench, capabilities: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = Filters(PROFILE, platform.machine()).find(capabilities).program
    assert ours is not None
    monkeypatch.setattr(filters, "to_program", _refuse)
    handle = await oci.start("sleep", "60", capabilities=capabilities)
    (theirs,) = oci.driver._state().glob("*/runtime/*/seccomp.bpf")
    assert theirs.read_bytes() == base64.b64decode(ours)
    await oci.driver.remove(handle)


@pytest.mark.anyio
async def test_crun_takes_the_program(oci: Workbench) -> None:
    await oci.run("true")
    program = oci.driver._site.filters.find(()).program  # type: ignore[union-attr]
    handle = await oci.start("sleep", "60")
    (taken,) = oci.driver._state().glob("*/runtime/*/seccomp.bpf")
    assert program is not None
    assert taken.read_bytes() == base64.b64decode(program)
    await oci.driver.remove(handle)


def test_a_program_is_made_once() -> None:
    found = Filters(PROFILE, platform.machine())
    assert found.find(()) is found.find(())
    assert found.find(("SETUID",)) is not found.find(())


def test_without_libseccomp_the_runtime_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(filters, "_LIBRARY", "libnothing.so.9")
    filters._load.cache_clear()
    found = Filters(PROFILE, platform.machine()).find(())
    assert found.program is None
    assert found.profile["syscalls"]


@pytest.mark.parametrize("arguments", [1, 2])
def test_two_comparisons_of_one_argument_are_alternatives(arguments: int) -> None:
    """A program is executed here as the kernel would."""
    compared = [{"index": 0, "value": value, "valueTwo": 0, "op": "SCMP_CMP_EQ"} for value in (5, 7)[:arguments]]
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64"],
        "syscalls": [{"names": ["personality", "no_such_call"], "action": "SCMP_ACT_ALLOW", "args": compared}],
    }
    program = to_program(profile)
    allowed = [value for value in (5, 6, 7) if _returns(program, 135, value) == 0x7FFF0000]
    assert allowed == [5, 7][:arguments]


def _refuse(_profile: Any) -> bytes:
    raise OSError("not today")


class _Instruction(ctypes.LittleEndianStructure):
    """struct sock_filter."""

    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))


def _returns(program: bytes, call: int, *arguments: int) -> int:
    """seccomp_data of x86-64: number, architecture, instruction pointer, six arguments."""
    words = [call, 0xC000003E, 0, 0, *(half for each in arguments for half in (each, 0)), *([0] * 12)]
    code = (_Instruction * (len(program) // 8)).from_buffer_copy(program)
    at, accumulator = 0, 0
    while True:
        each = code[at]
        at += 1
        match each.code:
            case 0x20:  # load a word
                accumulator = words[each.k // 4]
            case 0x54:  # and
                accumulator &= each.k
            case 0x05:  # jump
                at += each.k
            case 0x15:  # equal
                at += each.yes if accumulator == each.k else each.no
            case 0x25:  # greater
                at += each.yes if accumulator > each.k else each.no
            case 0x35:  # greater or equal
                at += each.yes if accumulator >= each.k else each.no
            case 0x06:
                return int(each.k)
            case other:
                raise AssertionError(f"unknown instruction {other:#x}")


def test_the_programs_refuse_what_the_profile_refuses() -> None:
    program = to_program(Filters(PROFILE, "x86_64").find(()).profile)
    assert _returns(program, 0) == 0x7FFF0000  # read
    assert _returns(program, 165) == 0x00050001  # mount: EPERM
    assert _returns(program, 435) == 0x00050026  # clone3: ENOSYS
    assert _returns(program, 56, 0x10000000) != 0x7FFF0000  # clone with a new user namespace


@pytest.mark.parametrize("kind", [1, 2])
def test_sockets_lead_neither_to_the_host_of_a_virtual_machine_nor_to_the_audit(kind: int) -> None:
    program = to_program(Filters(PROFILE, "x86_64").find(()).profile)
    allowed, refused = 0x7FFF0000, 0x00050001
    for family in (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_PACKET, 45):
        assert _returns(program, _SOCKET, family, kind, 0) == allowed
    assert _returns(program, _SOCKET, socket.AF_INET, kind, 9) == allowed
    assert _returns(program, _SOCKET, socket.AF_NETLINK, kind, 0) == allowed  # routes, as getaddrinfo asks for
    assert _returns(program, _SOCKET, socket.AF_NETLINK, kind, 9) != allowed
    assert [_returns(program, _SOCKET, 40, kind, protocol) for protocol in (0, 1, 9)] == [refused] * 3
