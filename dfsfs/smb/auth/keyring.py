"""Logins of users in the kernel's keyrings, where `dfsfs login` stores them.

The kernel keeps keys per user, gives no other user access to them, and never writes them to disk. They are in the
user's persistent keyring (persistent-keyring(7)), which is removed when it was not used for some days
(kernel.keys.persistent_keyring_expiry, 3 of them). Kernels without persistent keyrings have them in the user keyring,
which a mount of root can't access. All functions use the keyring of the thread's effective user: identity.py.

Uses libkeyutils, which the Kerberos library depends on.
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
"""Bytes of the largest payload of a key of the type `user` (keyrings(7))."""


def store(domain: str, credentials: Credentials) -> None:
    """Stores a login for a domain or server, and replaces one that is there.

    Raises:
        PosixError: the kernel refuses it.
    """
    payload = json.dumps(
        {"username": credentials.username, "password": credentials.password.reveal(), "domain": credentials.domain}
    ).encode()
    with _open_keyring() as keyring:
        if _load_library().add_key(b"user", _description(domain), payload, len(payload), keyring) < 0:
            raise _make_error("storing the login")


def load(domain: str) -> Credentials | None:
    """The stored login for a domain or server, if there is one.

    Raises:
        PosixError: the kernel refuses to read it, or it is malformed.
    """
    with _open_keyring() as keyring:
        key = _find(domain, keyring)
        if key is None:
            return None
        buffer = ctypes.create_string_buffer(_MAX_PAYLOAD)
        size = _load_library().keyctl_read(key, buffer, _MAX_PAYLOAD)
        if size < 0:
            raise _make_error("reading the stored login")
    try:
        found = json.loads(buffer.raw[:size])
        return Credentials(str(found["username"]), Secret(str(found["password"])), str(found["domain"]))
    except (ValueError, KeyError, TypeError):
        raise PosixError(errno.EINVAL, f"the login that is stored for {domain} makes no sense") from None


def remove(domain: str) -> bool:
    """Removes a login. Returns whether there was one. Raises: PosixError: the kernel refuses."""
    with _open_keyring() as keyring:
        key = _find(domain, keyring)
        if key is None:
            return False
        if _load_library().keyctl_unlink(key, keyring) < 0:
            raise _make_error("removing the stored login")
    return True


def _description(domain: str) -> bytes:
    return f"dfsfs:{domain.lower()}".encode()


def _find(domain: str, keyring: int) -> int | None:
    key: int = _load_library().keyctl_search(keyring, b"user", _description(domain), 0)
    if key >= 0:
        return key
    if ctypes.get_errno() in _MISSING:
        return None
    raise _make_error("looking for a stored login")


@contextmanager
def _open_keyring() -> Iterator[int]:
    """Gives access to the keyring of the thread's effective user, for the length of the block."""
    library = _load_library()
    keyring: int = library.keyctl_get_persistent(os.geteuid(), _THREAD_KEYRING)
    if keyring < 0:
        if os.geteuid() != os.getuid():
            # The user keyring is that of the real user, which is root within as_user (identity.py).
            raise PosixError(errno.EACCES, f"the kernel gives no persistent keyring of user {os.geteuid()}")
        yield _USER_KEYRING
        return
    try:
        yield keyring
    finally:
        library.keyctl_unlink(keyring, _THREAD_KEYRING)


def _load_library() -> ctypes.CDLL:
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


def _make_error(what: str) -> PosixError:
    number = ctypes.get_errno()
    return PosixError(number or errno.EIO, f"{what}: {os.strerror(number)}")
