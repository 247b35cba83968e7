"""A DFS root server or domain controller for tests: impacket's SMB2 server with the referral engine behind its IOCTLs.

    with NamespaceServer("ns1", "127.1.2.3", world, users) as server:
        server.faults[path] = Fault(truncate=20)
        ...
        assert server.requests[-1].path == ...

impacket answers with dialect 2.0.2 and signs if it can; here NEGOTIATE says 2.1 and that signing is required. A tree
connect to a namespace says SHARE_CAP_DFS, and CREATE of a name on or below a link says PATH_NOT_COVERED. What lies in
the root besides its links is a folder on disk, in which every link has an empty folder, so that it is listed; its entry
says that it is a DFS reparse point.

One thread per connection, all ended by stop(). A server that is stopped refuses connections, and can be started again.
"""

from __future__ import annotations

import random
import socket
import socketserver
import struct
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from impacket import smb3structs as smb2
from impacket.ntlm import compute_lmhash, compute_nthash
from impacket.smbserver import SMBSERVER, SMB2Commands, SMBSERVERHandler

from dfsfs.dfsc.wire import ReferralRequest, ReferralResponse, decode_request, decode_request_ex, encode_response
from dfsfs.errors import WireError
from dfsfs.ntstatus import NtStatus
from dfsfs.unc import fold_name
from tests.support.lab.faults import Fault, changed
from tests.support.lab.referrals import Client, answer, fit, link_above

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path
    from types import TracebackType

    from tests.support.lab.namespaces import ServedNamespace, World
    from tests.support.lab.topology import User

PORT = 445
DIALECT_2_1 = 0x0210
CAP_DFS = 0x1
SIGNING_REQUIRED = 0x3
FLAG_DFS = 0x10000000
SHARE_FLAGS_DFS_ROOT = 0x3
SHARE_CAP_DFS = 0x8
FSCTL_DFS_GET_REFERRALS = 0x00060194
FSCTL_DFS_GET_REFERRALS_EX = 0x000601B0
FSCTL_VALIDATE_NEGOTIATE_INFO = 0x00140204
DIRECTORY_AND_REPARSE_POINT = 0x410
REPARSE_TAG_DFS = 0x8000000A


@dataclass(frozen=True, slots=True)
class SeenRequest:
    """A referral request that came in, and what was answered."""

    path: str
    level: int
    site: str | None
    room: int
    status: int


class _TcpServer(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True


@dataclass(slots=True)
class NamespaceServer:
    """See the module's text. `folder` is empty and this server's own; `users` may log in with their passwords."""

    name: str
    address: str
    world: World
    users: Iterable[User]
    folder: Path
    supports_ex: bool = True
    faults: dict[str, Fault] = field(default_factory=dict)
    """What goes wrong with requests for a path (folded, in wire form; "*" for all)."""
    requests: list[SeenRequest] = field(default_factory=list)
    rng: random.Random = field(default_factory=lambda: random.Random(1))
    newest: int = 4
    """The newest version of referrals that this server speaks."""
    _engine: Any = None
    _tcp: _TcpServer | None = None
    _sockets: list[socket.socket] = field(default_factory=list)
    _thread: threading.Thread | None = None
    _released: threading.Event = field(default_factory=threading.Event)
    _said: bytes = b""
    """What the answer to NEGOTIATE said, as VALIDATE_NEGOTIATE_INFO has it (MS-SMB2 2.2.32.6)."""

    def __enter__(self) -> Self:
        self._make_folders()
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Starts to listen; returns when connections are accepted."""
        self._released.clear()
        self._engine = self._make_engine()
        handler = _handler(self)
        self._tcp = _TcpServer((self.address, PORT), handler)
        self._thread = threading.Thread(target=self._tcp.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends all connections and the listener."""
        self._released.set()
        if self._tcp is None or self._thread is None:
            return
        self._tcp.shutdown()
        self._tcp.server_close()
        self.disconnect()
        self._thread.join(10)
        assert not self._thread.is_alive()
        self._tcp = self._thread = None

    def disconnect(self) -> None:
        """Resets every connection."""
        while self._sockets:
            end = self._sockets.pop()
            try:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
            end.close()

    # -- the engine -----------------------------------------------------------------------------------------------

    def _make_folders(self) -> None:
        for namespace in self.world.namespaces:
            root = self.folder / namespace.name
            root.mkdir(parents=True, exist_ok=True)
            (root / "readme.txt").write_text(f"the root of {namespace.name} on {self.name}\n")
            for link in namespace.links:
                root.joinpath(*link.components).mkdir(parents=True, exist_ok=True)

    def _make_engine(self) -> Any:
        import configparser

        config = configparser.ConfigParser()
        config["global"] = {
            "server_name": self.name,
            "server_os": "dfsfs",
            "server_domain": "LAB",
            "log_file": "None",
            "rpc_apis": "yes",
            "credentials_file": "",
            "challenge": "41" * 8,
            "anonymous_logon": "False",
            "SMB2Support": "True",
        }
        config["IPC$"] = {"comment": "", "read only": "yes", "share type": "3", "path": str(self.folder)}
        for namespace in self.world.namespaces:
            config[namespace.name.upper()] = {
                "comment": "",
                "read only": "no",
                "share type": "0",
                "path": str(self.folder / namespace.name),
            }
        engine = SMBSERVER((self.address, 0), config_parser=config)
        engine.server_close()  # only its commands are used; the listener is ours
        engine.processConfigFile()
        for user in self.users:
            engine.addCredential(user.name, user.uid, compute_lmhash(user.password), compute_nthash(user.password))
        engine.hookSmb2Command(smb2.SMB2_NEGOTIATE, self._negotiate)
        engine.hookSmb2Command(smb2.SMB2_TREE_CONNECT, self._tree_connect)
        engine.hookSmb2Command(smb2.SMB2_CREATE, self._create)
        engine.hookSmb2Command(smb2.SMB2_QUERY_DIRECTORY, self._query_directory)
        engine.hookSmb2Command(smb2.SMB2_IOCTL, self._ioctl)
        return engine

    def _negotiate(self, connection: str, engine: Any, packet: Any, is_smb1: bool = False) -> Any:
        commands, (response,), status = SMB2Commands.smb2Negotiate(connection, engine, packet, is_smb1)
        body = response["Data"]
        body["DialectRevision"] = DIALECT_2_1
        body["SecurityMode"] = SIGNING_REQUIRED
        body["Capabilities"] = CAP_DFS
        self._said = struct.pack("<I16sHH", CAP_DFS, bytes(body["ServerGuid"]), SIGNING_REQUIRED, DIALECT_2_1)
        return commands, [response], status

    def _tree_connect(self, connection: str, engine: Any, packet: Any) -> Any:
        commands, (response,), status = SMB2Commands.smb2TreeConnect(connection, engine, packet)
        if status:
            response["Status"] = int(NtStatus.BAD_NETWORK_NAME)
        elif response["Data"]["ShareType"] == smb2.SMB2_SHARE_TYPE_DISK:
            response["Data"]["ShareFlags"] = SHARE_FLAGS_DFS_ROOT
            response["Data"]["Capabilities"] = SHARE_CAP_DFS
        response["CreditRequestResponse"] = packet["CreditRequestResponse"]
        return commands, [response], status

    # -- files ----------------------------------------------------------------------------------------------------

    def _create(self, connection: str, engine: Any, packet: Any) -> Any:
        create = smb2.SMB2Create(packet["Data"])
        name = create["Buffer"][: create["NameLength"]].decode("utf-16-le")
        components = [part for part in name.split("\\") if part]
        if packet["Flags"] & FLAG_DFS:
            components = components[2:]
        namespace = self._namespace_of(engine, connection, packet["TreeID"])
        if namespace is not None and link_above(namespace, components) is not None:
            return [smb2.SMB2Error()], None, int(NtStatus.PATH_NOT_COVERED)
        relative = "\\".join(components).encode("utf-16-le")
        create["Buffer"] = relative or b"\0\0"
        create["NameLength"] = len(relative)
        packet["Data"] = create.getData()
        return SMB2Commands.smb2Create(connection, engine, packet)

    def _namespace_of(self, engine: Any, connection: str, tree: int) -> ServedNamespace | None:
        share = engine.getConnectionData(connection)["ConnectedShares"].get(tree)
        name = fold_name(share["shareName"]) if share else ""
        return next((known for known in self.world.namespaces if fold_name(known.name) == name), None)

    def _query_directory(self, connection: str, engine: Any, packet: Any) -> Any:
        commands, packets, status = SMB2Commands.smb2QueryDirectory(connection, engine, packet)
        if status == 0 and commands:
            links = {fold_name(link.components[-1]) for known in self.world.namespaces for link in known.links}
            commands[0]["Buffer"] = _with_links(commands[0]["Buffer"], links)
        return commands, packets, status

    # -- referrals ------------------------------------------------------------------------------------------------

    def _ioctl(self, connection: str, engine: Any, packet: Any) -> Any:
        ioctl = smb2.SMB2Ioctl(packet["Data"])
        code, room = ioctl["CtlCode"], ioctl["MaxOutputResponse"]
        if code == FSCTL_VALIDATE_NEGOTIATE_INFO:
            return [_answer(ioctl, self._said)], None, 0
        if code not in (FSCTL_DFS_GET_REFERRALS, FSCTL_DFS_GET_REFERRALS_EX):
            return SMB2Commands.smb2Ioctl(connection, engine, packet)
        try:
            request = (decode_request if code == FSCTL_DFS_GET_REFERRALS else decode_request_ex)(ioctl["Buffer"])
        except WireError:
            return [smb2.SMB2Error()], None, int(NtStatus.INVALID_PARAMETER)
        client = engine.getConnectionData(connection)["ClientIP"]
        status, body = self.referral(request, room, client, extended=code == FSCTL_DFS_GET_REFERRALS_EX)
        self.requests.append(SeenRequest(request.path, request.level, request.site, room, status))
        if status not in (NtStatus.SUCCESS, NtStatus.BUFFER_OVERFLOW):
            return [smb2.SMB2Error()], None, status
        return [_answer(ioctl, body)], None, status

    def referral(self, request: ReferralRequest, room: int, client: str, *, extended: bool) -> tuple[int, bytes]:
        """The status and the bytes for a request, with the faults that it asks for."""
        if extended and not self.supports_ex:
            return NtStatus.FS_DRIVER_REQUIRED, b""
        fault = self.faults.get(fold_name(request.path.rstrip("\\"))) or self.faults.get("*") or Fault()
        if fault.black_hole:
            self._released.wait()
        if fault.black_hole or fault.reset:
            raise ConnectionResetError("as the test wants it")
        if fault.status is not None:
            return fault.status, b""
        level = min(request.level, fault.newest if fault.newest is not None else self.newest)
        site = Client(request.site or self.world.site_of_client(client))
        found = answer(self.world, self.name, ReferralRequest(request.path, level), site, self.rng)
        if not isinstance(found, ReferralResponse):
            return found, b""
        response = changed(found, fault)
        if fault.overflow or fault.partial_overflow:
            whole = encode_response(response)
            if len(whole) > room:
                return NtStatus.BUFFER_OVERFLOW, whole[:room] if fault.partial_overflow else b""
        body = fit(response, room)
        return (body, b"") if isinstance(body, NtStatus) else (NtStatus.SUCCESS, fault.spoil(body))


def _handler(server: NamespaceServer) -> type[SMBSERVERHandler]:
    class Handler(SMBSERVERHandler):  # type: ignore[misc]
        """impacket's, for one connection of this server."""

        def __init__(self, request: socket.socket, client: tuple[str, int], _tcp: object) -> None:
            server._sockets.append(request)
            super().__init__(request, client, server._engine)

        def handle(self) -> None:
            try:
                super().handle()
            except Exception:
                pass  # the connection ends, which is what faults want; impacket has no narrower error

    return Handler


def _answer(ioctl: Any, body: bytes) -> Any:
    response = smb2.SMB2Ioctl_Response()
    response["CtlCode"], response["FileID"] = ioctl["CtlCode"], ioctl["FileID"]
    response["InputOffset"] = response["InputCount"] = response["Flags"] = 0
    response["OutputOffset"], response["OutputCount"], response["Buffer"] = 0x70, len(body), body
    return response


def _with_links(buffer: bytes, links: set[str]) -> bytes:
    """A listing (FileIdBothDirectoryInformation) whose entries for links say that they are DFS reparse points."""
    data, start = bytearray(buffer), 0
    while start + 104 <= len(data):
        (step,) = struct.unpack_from("<I", data, start)
        (length,) = struct.unpack_from("<I", data, start + 60)
        name = data[start + 104 : start + 104 + length].decode("utf-16-le", "replace")
        if fold_name(name) in links:
            struct.pack_into("<I", data, start + 56, DIRECTORY_AND_REPARSE_POINT)
            struct.pack_into("<I", data, start + 64, REPARSE_TAG_DFS)
        if not step:
            break
        start += step
    return bytes(data)


def wire_key(path: str) -> str:
    """A path as a key of `faults`."""
    return fold_name("\\" + "\\".join(part for part in path.split("/") if part))
