"""What another client of the server does meanwhile: one compound each, which keeps no lease."""

from __future__ import annotations

import stat as posix
from typing import TYPE_CHECKING, Any

from dfsfs.ntstatus import NtStatus, errno_of
from dfsfs.smb.wire import messages
from dfsfs.smb.wire.constants import Access, CreateDisposition, FileInformationClass
from dfsfs.smb.wire.fscc import encode_end_of_file, encode_rename
from dfsfs.smb.wire.messages import RELATED_FILE_ID, Request
from tests.shell.model import File, Model
from tests.shell.operations import Operation
from tests.shell.steps import make_steps, nothing_steps, rename_steps, truncate_steps

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from tests.shell.scene import Scene

    Steps = Generator[None, None, Any]


def elsewhere(name: str, steps: Callable[[Model], Steps], *requests: Request, cuts: bool = False) -> Operation:
    """One compound of another client."""

    async def real(scene: Scene) -> Any:
        status = await scene.other.ask(*requests)
        if status != NtStatus.SUCCESS:
            raise OSError(errno_of(status), name)
        return None

    touches = frozenset({"/", "f", "n", "v"})
    return Operation(f"elsewhere: {name}", real, steps, touches=touches, grows=not cuts, elsewhere=True)


def _opened(name: str, access: int, disposition: CreateDisposition = CreateDisposition.FILE_OPEN) -> Request:
    return messages.encode_create(name, access=access, disposition=disposition)


def _set(info_class: FileInformationClass, info: bytes) -> Request:
    return messages.encode_set_info(RELATED_FILE_ID, info_class, info)


def _written(path: str, data: bytes, offset: int) -> Callable[[Model], Steps]:
    def steps(model: Model) -> Steps:
        yield
        file = model.files[model.find(path)]
        file.data = file.data[:offset].ljust(offset, b"\0") + data + file.data[offset + len(data) :]
        return None

    return steps


def _writing(data: bytes, offset: int) -> Request:
    return messages.encode_write(RELATED_FILE_ID, offset, data)


CLOSE = messages.encode_close(RELATED_FILE_ID)
CUT = _set(FileInformationClass.FILE_END_OF_FILE_INFORMATION, encode_end_of_file(1))
REPLACE = _set(FileInformationClass.FILE_RENAME_INFORMATION, encode_rename("f", replace=True))
RENAME = _set(FileInformationClass.FILE_RENAME_INFORMATION, encode_rename("n", replace=False))
ELSEWHERE: tuple[Operation, ...] = (
    elsewhere("write f", _written("f", b"EE", 0), _opened("f", Access.WRITE), _writing(b"EE", 0), CLOSE),
    elsewhere("extend f", _written("f", b"EEE", 4), _opened("f", Access.WRITE), _writing(b"EEE", 4), CLOSE),
    elsewhere("cut f", truncate_steps(1, path="f"), _opened("f", Access.WRITE), CUT, CLOSE, cuts=True),
    elsewhere(
        "read f", nothing_steps("f"), _opened("f", Access.READ), messages.encode_read(RELATED_FILE_ID, 0, 9), CLOSE
    ),
    elsewhere("replace f", rename_steps("v", "f"), _opened("v", Access.DELETE), REPLACE, CLOSE),
    elsewhere("rename f to n", rename_steps("f", "n", replaces=False), _opened("f", Access.DELETE), RENAME, CLOSE),
    elsewhere(
        "make n",
        make_steps("n", lambda: File(posix.S_IFREG)),
        _opened("n", Access.WRITE, CreateDisposition.FILE_CREATE),
        CLOSE,
    ),
)
