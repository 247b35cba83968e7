"""Logins that users have stored on this computer, in the kernel's keyring: `dfsfs login` puts them there.

The kernel keeps keys per user, shows them to nobody else, and never writes them to disk. They are in the user's
persistent keyring (persistent-keyring(7)), which goes away when it was not used for some days (kernel.keys.
persistent_keyring_expiry, 3 of them), or in the user keyring where the kernel has no such thing, which is out of reach
for a mount of root's. All functions work on the keyring of the user that the calling thread acts as: identity.py.

By way of libkeyutils, which the Kerberos library brings along.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from dfsfs.errors import PosixError
from dfsfs.smb.auth.credentials import Credentials, Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

_THREAD_KEYRING, _USER_KEYRING = -1, -4
_MISSING = (errno.ENOKEY, errno.EKEYEXPIRED, errno.EKEYREVOKED)
_MAX_PAYLOAD = 32767


def store(domain: str, credentials: Credentials) -> None:
    """Keeps a login for a domain or server, in place of one that is there.

    Raises:
        PosixError: the kernel does not take it.
    """
    payload = json.dumps(
        {"username": credentials.username, "password": credentials.password.reveal(), "domain": credentials.domain}
    ).encode()
    with _keyring() as keyring:
        if _library().add_key(b"user", _description(domain), payload, len(payload), keyring) < 0:
            raise _failed("storing the login")


def load(domain: str) -> Credentials | None:
    """The login that is kept for a domain or server, if there is one.

    Raises:
        PosixError: the kernel does not give it, or it makes no sense.
    """
    with _keyring() as keyring:
        key = _find(domain, keyring)
        if key is None:
            return None
        buffer = ctypes.create_string_buffer(_MAX_PAYLOAD)
        size = _library().keyctl_read(key, buffer, _MAX_PAYLOAD)
        if size < 0:
            raise _failed("reading the stored login")
    try:
        found = json.loads(buffer.raw[:size])
        return Credentials(str(found["username"]), Secret(str(found["password"])), str(found["domain"]))
    except (ValueError, KeyError, TypeError):
        raise PosixError(errno.EINVAL, f"the login that is stored for {domain} makes no sense") from None


def remove(domain: str) -> bool:
    """Forgets a login; whether there was one. Raises: PosixError: the kernel refuses."""
    with _keyring() as keyring:
        key = _find(domain, keyring)
        if key is None:
            return False
        if _library().keyctl_unlink(key, keyring) < 0:
            raise _failed("removing the stored login")
    return True


def _description(domain: str) -> bytes:
    return f"dfsfs:{domain.lower()}".encode()


def _find(domain: str, keyring: int) -> int | None:
    key: int = _library().keyctl_search(keyring, b"user", _description(domain), 0)
    if key >= 0:
        return key
    if ctypes.get_errno() in _MISSING:
        return None
    raise _failed("looking for a stored login")


@contextmanager
def _keyring() -> Iterator[int]:
    """The keyring of the user that this thread acts as. What is in it may be used for the length of the block."""
    library = _library()
    keyring: int = library.keyctl_get_persistent(os.geteuid(), _THREAD_KEYRING)
    if keyring < 0:
        if os.geteuid() != os.getuid():
            # The user keyring is that of the real user, which stays root while a thread acts as somebody (identity.py).
            raise PosixError(errno.EACCES, f"the kernel gives no persistent keyring of user {os.geteuid()}")
        yield _USER_KEYRING
        return
    try:
        yield keyring
    finally:
        library.keyctl_unlink(keyring, _THREAD_KEYRING)


def _library() -> ctypes.CDLL:
    global _loaded
    if _loaded is None:
        try:
            _loaded = ctypes.CDLL("libkeyutils.so.1", use_errno=True)
        except OSError:
            raise PosixError(errno.ENOSYS, "libkeyutils is not installed") from None
        for name in ("add_key", "keyctl_search", "keyctl_unlink", "keyctl_read", "keyctl_get_persistent"):
            getattr(_loaded, name).restype = ctypes.c_long
        _loaded.add_key.argtypes = [
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_char_p,
            ctypes.c_size_t,
            ctypes.c_int32,
        ]
        _loaded.keyctl_search.argtypes = [ctypes.c_int32, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int32]
        _loaded.keyctl_unlink.argtypes = [ctypes.c_int32, ctypes.c_int32]
        _loaded.keyctl_read.argtypes = [ctypes.c_int32, ctypes.c_void_p, ctypes.c_size_t]
        _loaded.keyctl_get_persistent.argtypes = [ctypes.c_uint32, ctypes.c_int32]
    return _loaded


_loaded: ctypes.CDLL | None = None


def _failed(what: str) -> PosixError:
    number = ctypes.get_errno()
    return PosixError(number or errno.EIO, f"{what}: {os.strerror(number)}")
