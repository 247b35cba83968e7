"""Asynchronous writes by Linux's own interface (io_submit(2)), which no library of Python has."""

from __future__ import annotations

import ctypes
import os
import platform
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import mmap

_NUMBERS = {"x86_64": (206, 207, 208, 209), "aarch64": (0, 1, 4, 2)}
"""io_setup, io_destroy, io_getevents and io_submit."""
_PWRITE = 1


class _Control(ctypes.Structure):
    """struct iocb of linux/aio_abi.h on a little-endian machine."""

    _fields_ = [
        ("data", ctypes.c_uint64),
        ("key", ctypes.c_uint32),
        ("rw_flags", ctypes.c_uint32),
        ("opcode", ctypes.c_uint16),
        ("priority", ctypes.c_int16),
        ("file", ctypes.c_uint32),
        ("buffer", ctypes.c_uint64),
        ("length", ctypes.c_uint64),
        ("offset", ctypes.c_int64),
        ("reserved", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("event_file", ctypes.c_uint32),
    ]


class _Event(ctypes.Structure):
    """struct io_event."""

    result: int
    _fields_ = [
        ("data", ctypes.c_uint64),
        ("control", ctypes.c_uint64),
        ("result", ctypes.c_int64),
        ("result2", ctypes.c_int64),
    ]


def can_submit() -> bool:
    """Whether the numbers of the system calls are known here."""
    return platform.machine() in _NUMBERS


def write_at_once(file: int, memory: mmap.mmap, piece: int) -> None:
    """Writes all of `memory` to the beginning of a file, with as many requests at once as there are pieces.

    Raises:
        OSError: the kernel takes none, or one of them failed or was short.
    """
    setup, destroy, get_events, submit = _NUMBERS[platform.machine()]
    count = len(memory) // piece
    context = ctypes.c_ulong()
    _call(setup, count, ctypes.byref(context))
    try:
        start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
        controls = (_Control * count)()
        for index, control in enumerate(controls):
            control.opcode, control.file = _PWRITE, file
            control.buffer, control.length, control.offset = start + index * piece, piece, index * piece
        pointers = (ctypes.POINTER(_Control) * count)(*(ctypes.pointer(control) for control in controls))
        _call(submit, context, ctypes.c_long(count), pointers)
        events = (_Event * count)()
        _call(get_events, context, ctypes.c_long(count), ctypes.c_long(count), events, None)
        for event in events:
            if event.result != piece:
                raise OSError(-event.result if event.result < 0 else 0, f"a write of {piece} gave {event.result}")
    finally:
        _call(destroy, context)


def _call(number: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    result: int = libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
