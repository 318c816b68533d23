"""Seccomp filters of containers: the profile for the runtime, and the program it would make of it, made once for all.

Compiling takes longer than all else that crun does for a start. libseccomp is here wherever crun is, as both runtimes
lean on it; the program is byte for byte what crun makes of the profile itself. Used by `container`.
"""

from __future__ import annotations

import base64
import ctypes
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from oneoff import journal
from oneoff.drivers.oci.seccomp import to_oci_seccomp

_LIBRARY = "libseccomp.so.2"
# seccomp.h of libseccomp 2.
_ACTIONS = {"SCMP_ACT_ALLOW": 0x7FFF0000, "SCMP_ACT_ERRNO": 0x00050000}
_OPERATORS = {"SCMP_CMP_NE": 1, "SCMP_CMP_LT": 2, "SCMP_CMP_LE": 3, "SCMP_CMP_EQ": 4, "SCMP_CMP_GE": 5}
_OPERATORS |= {"SCMP_CMP_GT": 6, "SCMP_CMP_MASKED_EQ": 7}
_UNKNOWN_CALL = -1
_EPERM, _EEXIST = 1, 17


@dataclass(frozen=True, slots=True)
class Filter:
    """`profile` in the form of the OCI runtime specification; `program` is base64, None where it cannot be made."""

    profile: dict[str, Any]
    program: str | None = None


class Filters:
    """By the capabilities a container may have. `profile` is that of containers-common, `machine` as uname says it."""

    def __init__(self, profile: Mapping[str, Any], machine: str) -> None:
        self._profile = profile
        self._machine = machine
        self.find = lru_cache(maxsize=32)(self._make)

    def _make(self, capabilities: tuple[str, ...]) -> Filter:
        profile = to_oci_seccomp(self._profile, self._machine, [f"CAP_{name}" for name in capabilities])
        try:
            program = to_program(profile)
        except (OSError, KeyError) as problem:
            # The runtime compiles it then, as runc always does.
            journal.warning("seccomp filter not compiled beforehand", error=str(problem))
            return Filter(profile)
        return Filter(profile, base64.b64encode(program).decode())


def to_program(profile: Mapping[str, Any]) -> bytes:
    """What seccomp(2) takes. Raises OSError when libseccomp is missing or refuses, KeyError for words unknown here."""
    library = _load()
    default = _to_action(profile["defaultAction"], profile.get("defaultErrnoRet"))
    context = library.seccomp_init(default)
    if not context:
        raise OSError("libseccomp makes no filter")
    try:
        for name in profile["architectures"]:
            token = library.seccomp_arch_resolve_name(name.removeprefix("SCMP_ARCH_").lower().encode())
            _check(library.seccomp_arch_add(context, token), name, _EEXIST)
        for rule in profile["syscalls"]:
            action = _to_action(rule["action"], rule.get("errnoRet"))
            if action != default:
                _add(library, context, rule, action)
        return _export(library, context)
    finally:
        library.seccomp_release(context)


class _Comparison(ctypes.Structure):
    """struct scmp_arg_cmp."""

    _fields_ = (
        ("arg", ctypes.c_uint),
        ("op", ctypes.c_int),
        ("datum_a", ctypes.c_uint64),
        ("datum_b", ctypes.c_uint64),
    )


def _add(library: ctypes.CDLL, context: int, rule: Mapping[str, Any], action: int) -> None:
    compared = [_Comparison(a["index"], _OPERATORS[a["op"]], a["value"], a["valueTwo"]) for a in rule.get("args", ())]
    # Several comparisons of one argument are alternatives, each a rule of its own; else all must hold.
    is_choice = len({each.arg for each in compared}) < len(compared)
    groups: Iterable[list[_Comparison]] = [[each] for each in compared] if is_choice else [compared]
    for name in rule["names"]:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number == _UNKNOWN_CALL:
            continue  # newer than this libseccomp: the default action is all it can get
        for group in groups:
            array = (_Comparison * len(group))(*group)
            _check(library.seccomp_rule_add_array(context, action, number, len(group), array), name)


def _export(library: ctypes.CDLL, context: int) -> bytes:
    fd = os.memfd_create("seccomp", os.MFD_CLOEXEC)
    try:
        _check(library.seccomp_export_bpf(context, fd), "export")
        return os.pread(fd, os.fstat(fd).st_size, 0)
    finally:
        os.close(fd)


def _to_action(name: str, errno_ret: int | None) -> int:
    return _ACTIONS[name] | ((_EPERM if errno_ret is None else errno_ret) if name == "SCMP_ACT_ERRNO" else 0)


def _check(answer: int, what: str, harmless: int = 0) -> None:
    if answer < 0 and answer != -harmless:
        raise OSError(-answer, f"libseccomp: {what}: {os.strerror(-answer)}")


@lru_cache(maxsize=1)
def _load() -> ctypes.CDLL:
    library = ctypes.CDLL(_LIBRARY)
    library.seccomp_init.restype = ctypes.c_void_p
    library.seccomp_init.argtypes = [ctypes.c_uint32]
    library.seccomp_release.argtypes = [ctypes.c_void_p]
    library.seccomp_arch_resolve_name.restype = ctypes.c_uint32
    library.seccomp_arch_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_arch_add.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.seccomp_syscall_resolve_name.argtypes = [ctypes.c_char_p]
    library.seccomp_rule_add_array.argtypes = [
        *(ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int, ctypes.c_uint, ctypes.POINTER(_Comparison))
    ]
    library.seccomp_export_bpf.argtypes = [ctypes.c_void_p, ctypes.c_int]
    return library
