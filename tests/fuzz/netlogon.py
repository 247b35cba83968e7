"""A fuzz target for the decoder of LDAP pings, like that for referrals: the answer as a whole, or what is in it."""

from __future__ import annotations

import sys

import atheris

with atheris.instrument_imports(include=["dfsfs.namespace.cldap"]):
    from dfsfs.errors import WireError
    from dfsfs.namespace.cldap import decode_netlogon, decode_ping_reply


def one_input(data: bytes) -> None:
    """Raises nothing but what a decoder must not raise."""
    try:
        if data[:1] == b"\0":
            decode_netlogon(data[1:])
        else:
            decode_ping_reply(data[1:], 7)
    except WireError:
        pass


def main() -> None:
    atheris.Setup([f"{sys.executable} -m tests.fuzz.netlogon", *sys.argv[1:]], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
