"""Answers that somebody changes on the way: an error, never data, and a connection that is not used any more."""

from __future__ import annotations

import os
import uuid
from typing import TYPE_CHECKING

import pytest

from tests.kernel.mounts import mount_command, mounted
from tests.support.fakes.proxy import (
    CREATE,
    FLAGS,
    NEGOTIATE,
    PLAIN,
    QUERY_DIRECTORY,
    READ,
    SEALED,
    SESSION_SETUP,
    SIGNATURE,
    SIGNED,
    STATUS,
    Proxy,
    command,
    messages,
    status,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.lab.samba import Lab

pytestmark = [pytest.mark.lab, pytest.mark.mount]

CONTENT = bytes(range(256)) * 400
DIALECTS = ["2.1", "3.0", "3.0.2", "3.1.1"]
FAILED = 32


def flip(offset: int) -> Callable[[bytearray], None]:
    """Changes one bit of the byte at an offset, which may count from the end."""

    def change(message: bytearray) -> None:
        message[offset] ^= 0x10

    return change


def clear_signed_flag(message: bytearray) -> None:
    message[FLAGS] &= ~SIGNED & 0xFF


def strip_signature(message: bytearray) -> None:
    clear_signed_flag(message)
    zero_signature(message)


def zero_signature(message: bytearray) -> None:
    message[SIGNATURE : SIGNATURE + 16] = bytes(16)


def claim_failure(message: bytearray) -> None:
    """STATUS_OBJECT_NAME_NOT_FOUND: what is there is to look as if it were not."""
    message[STATUS : STATUS + 4] = (0xC0000034).to_bytes(4, "little")


def append_byte(message: bytearray) -> None:
    message.append(0)


CHANGES: dict[str, Callable[[bytearray], None]] = {
    "a bit of the payload": flip(-1),
    "a bit of the first byte read": flip(64 + 16),
    "a bit of the signature": flip(SIGNATURE),
    "the last bit of the signature": flip(SIGNATURE + 15),
    "no signed flag": clear_signed_flag,
    "no signed flag and no signature": strip_signature,
    "no signature": zero_signature,
    "the credits": flip(14),
    "the message id": flip(24),
    "the session id": flip(40),
    "the status": claim_failure,
    "a byte more": append_byte,
}


def of_command(wanted: int, change: Callable[[bytearray], None]) -> Callable[[bytes], bytes]:
    """Changes the successful answers to one command, in a compound also its first message."""

    def tamper(frame: bytes) -> bytes:
        parts = list(messages(frame))
        for index, part in enumerate(parts):
            if command(part) == wanted and status(part) in (0, 0xC0000016):
                changed = bytearray(part)
                change(changed)
                parts[index] = bytes(changed)
        return b"".join(parts) or frame

    return tamper


@pytest.fixture
def proxy(lab: Lab) -> Iterator[Proxy]:
    with Proxy(f"{lab.net}.99", lab.address("fs1")) as running:
        yield running


@pytest.fixture
def file(lab: Lab) -> Iterator[Path]:
    """A file in fs1's share `data`, as it lies there."""
    path = lab.host("fs1").share_path("data") / f"tampered-{uuid.uuid4().hex[:8]}"
    path.write_bytes(CONTENT)
    path.chmod(0o666)
    yield path
    path.unlink()


def read_with_tampering(mount: Path, file: Path, proxy: Proxy, tamper: Callable[[bytes], bytes]) -> None:
    """A reading program gets an error while answers are changed, and the file as soon as they are not."""
    os.utime(file)  # what the kernel has of it is not good any more
    os.stat(mount / file.name)
    proxy.tamper, proxy.changed = tamper, 0
    with pytest.raises(OSError):
        (mount / file.name).read_bytes()
    assert proxy.changed
    proxy.tamper = None
    assert (mount / file.name).read_bytes() == CONTENT


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_changed_answer_is_an_error_and_never_data(
    lab: Lab, proxy: Proxy, tmp_path: Path, file: Path, dialect: str
) -> None:
    with mounted(lab, tmp_path / "m", f"vers={dialect},actimeo=0,closetimeo=0", f"//{proxy.address}/data") as mount:
        for change in CHANGES.values():
            read_with_tampering(mount, file, proxy, of_command(READ, change))


@pytest.mark.parametrize("wanted", [CREATE, QUERY_DIRECTORY])
@pytest.mark.parametrize("change", [strip_signature, flip(SIGNATURE), claim_failure])
def test_names_and_attributes_are_not_believed_either(
    lab: Lab, proxy: Proxy, tmp_path: Path, file: Path, wanted: int, change: Callable[[bytearray], None]
) -> None:
    with mounted(lab, tmp_path / "m", "actimeo=0", f"//{proxy.address}/data") as mount:
        proxy.tamper = of_command(wanted, change)
        with pytest.raises(OSError) as caught:
            os.listdir(mount) if wanted == QUERY_DIRECTORY else os.stat(mount / file.name)
        assert not isinstance(caught.value, FileNotFoundError)
        assert proxy.changed
        proxy.tamper = None
        assert file.name in os.listdir(mount)
        assert os.stat(mount / file.name).st_size == len(CONTENT)


def test_sealed_answers_can_not_be_changed_either(lab: Lab, proxy: Proxy, tmp_path: Path, file: Path) -> None:
    def flip_sealed(frame: bytes) -> bytes:
        return frame[:-1] + bytes([frame[-1] ^ 1]) if frame.startswith(SEALED) else frame

    with mounted(lab, tmp_path / "m", "seal,actimeo=0", f"//{proxy.address}/data") as mount:
        read_with_tampering(mount, file, proxy, flip_sealed)


@pytest.mark.parametrize("dialect", DIALECTS)
@pytest.mark.parametrize("change", [flip(SIGNATURE), strip_signature], ids=["signature", "unsigned"])
def test_a_changed_login_is_no_mount(
    lab: Lab, proxy: Proxy, tmp_path: Path, dialect: str, change: Callable[[bytearray], None]
) -> None:
    """The server's last answer of a login is signed; only that proves that it knows the password."""
    proxy.tamper = of_command(SESSION_SETUP, change)
    refused(lab, proxy, tmp_path, f"vers={dialect}")
    assert proxy.changed


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_changed_negotiation_is_no_mount(lab: Lab, proxy: Proxy, tmp_path: Path, dialect: str) -> None:
    """3.1.1 sees it by the hash of the negotiation, the others by asking again, signed (MS-SMB2 3.2.5.5)."""
    capabilities = 64 + 24
    proxy.tamper = of_command(NEGOTIATE, flip(capabilities))
    refused(lab, proxy, tmp_path, f"vers={dialect}")
    assert proxy.changed


def test_a_downgrade_is_noticed(lab: Lab, proxy: Proxy, tmp_path: Path) -> None:
    """Somebody has the two agree on 3.0 although both speak 3.1.1."""

    def say_3_0(message: bytearray) -> None:
        message[64 + 4 : 64 + 6] = (0x0300).to_bytes(2, "little")
        message[64 + 6 : 64 + 8] = bytes(2)

    proxy.tamper = of_command(NEGOTIATE, say_3_0)
    refused(lab, proxy, tmp_path, "")
    assert proxy.changed


def offer_only(revision: int) -> Callable[[bytes], bytes]:
    """Of all dialects that the client offers, one is left (MS-SMB2 2.2.3), without what only 3.x has."""

    def cut_down(frame: bytes) -> bytes:
        if not frame.startswith(PLAIN) or command(frame) != NEGOTIATE:
            return frame
        message = bytearray(frame[:100]) + revision.to_bytes(2, "little")
        message[64 + 2 : 64 + 4] = (1).to_bytes(2, "little")
        message[64 + 28 : 64 + 36] = bytes(8)
        if revision == 0x0210:
            message[64 + 8 : 64 + 12] = bytes(4)
        return bytes(message)

    return cut_down


@pytest.mark.parametrize("revision", [0x0210, 0x0300, 0x0302])
def test_an_offer_that_was_cut_down_is_noticed(lab: Lab, proxy: Proxy, tmp_path: Path, revision: int) -> None:
    """Server and client agree on an older dialect than both speak; 2.1 would leave names and contents in the clear."""
    proxy.tamper_request = offer_only(revision)
    message = refused(lab, proxy, tmp_path, "")
    assert proxy.changed
    assert "downgrade" in message


@pytest.mark.parametrize("newest", ["SMB2_10", "SMB3_00", "SMB3_02"])
def test_a_server_that_speaks_nothing_newer_is_no_downgrade(lab: Lab, tmp_path: Path, file: Path, newest: str) -> None:
    host = lab.host("fs1")
    written = host.smb_conf.read_text()
    try:
        host.stop()
        host.smb_conf.write_text(written.replace("[global]\n", f"[global]\n    server max protocol = {newest}\n", 1))
        host.start()
        with mounted(lab, tmp_path / "m", "", f"//{host.address}/data") as mount:
            assert (mount / file.name).read_bytes() == CONTENT
    finally:
        host.stop()
        host.smb_conf.write_text(written)
        host.start()


def refused(lab: Lab, proxy: Proxy, tmp_path: Path, options: str) -> str:
    """Tries to mount; returns what mount.dfsfs says."""
    user, password = lab.credentials
    (tmp_path / "m").mkdir()
    words = ",".join(word for word in (f"username={user}", options) if word)
    result = mount_command(f"//{proxy.address}/data", tmp_path / "m", words, password)
    assert result.returncode == FAILED
    assert len(result.stderr.splitlines()) == 1
    assert proxy.address in result.stderr
    return result.stderr
