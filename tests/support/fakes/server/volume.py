"""A volume: files, their names and the handles on them, as a server of SMB2 treats them (MS-FSA 2.1.5).

    delete pending     a name that is to be deleted goes when the last handle that was opened by it is closed
    sharing            each handle says what others may do meanwhile; handles that only look at attributes do not count
    replacing          a rename does not take the place of a file that its client has open: ACCESS_DENIED
    hard links         a file has one id and many names; what is pending is one name's deletion
    times              as long as a file is open, the time of the last write is shown as it was at its first open; the
                       close of a handle that has written sets it. A time that was set through a handle stays

The volume's time moves by TICK with each change, and with `clock`, if there is one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dfsfs.ntstatus import NtStatus
from dfsfs.smb.wire.constants import Access, CreateDisposition, CreateOptions, FileAttributes, LeaseState, ShareAccess
from tests.support.fakes.server.errors import Refused
from tests.support.fakes.server.leases import Leases, ServerLease

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

START = 1_700_000_000 * 10**9
"""Nanoseconds since 1970 at which the volume's time begins."""
TICK = 10**6
"""Nanoseconds between two changes."""
FIRST_ID = 1000
KEPT_ATTRIBUTES = FileAttributes.FILE_ATTRIBUTE_HIDDEN | FileAttributes.FILE_ATTRIBUTE_SYSTEM
_LOOKS = Access.FILE_READ_ATTRIBUTES | Access.FILE_WRITE_ATTRIBUTES | Access.SYNCHRONIZE | Access.READ_CONTROL
_SHARED = (
    (Access.FILE_READ_DATA, ShareAccess.FILE_SHARE_READ),
    (Access.FILE_WRITE_DATA | Access.FILE_APPEND_DATA, ShareAccess.FILE_SHARE_WRITE),
    (Access.DELETE, ShareAccess.FILE_SHARE_DELETE),
)


@dataclass(slots=True, eq=False)
class Inode:
    """A file or folder. `names` are the folders and keys that it is found by."""

    file_id: int
    is_directory: bool
    created: int
    written: int
    changed: int
    accessed: int
    attributes: int = 0
    data: bytearray = field(default_factory=bytearray)
    children: dict[str, tuple[str, Inode]] = field(default_factory=dict)
    reserved: int = 0
    """Bytes that were allocated for it in advance."""
    names: list[tuple[Inode, str]] = field(default_factory=list)
    opens: list[Open] = field(default_factory=list)
    pending: list[tuple[Inode, str]] = field(default_factory=list)
    """Names that are to be deleted."""
    shown: int | None = None
    """The time of the last write as it is shown while the file is open."""
    eas: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def last_written(self) -> int:
        return self.written if self.shown is None else self.shown

    @property
    def wire_attributes(self) -> int:
        kind = FileAttributes.FILE_ATTRIBUTE_DIRECTORY if self.is_directory else 0
        return self.attributes | kind or FileAttributes.FILE_ATTRIBUTE_NORMAL


@dataclass(slots=True, eq=False)
class Open:
    """A handle. `place` is the name that it was opened by, wherever that is now; None: the root."""

    handle: bytes
    client: object
    inode: Inode
    place: tuple[Inode, str] | None
    access: int
    share_access: int
    lease: ServerLease | None = None
    delete_on_close: bool = False
    wrote: bool = False
    set_time: bool = False
    """Whether the time of the last write was set through it."""
    listing: list[tuple[str, Inode]] | None = None
    """What of the folder was not asked for yet."""

    @property
    def only_looks(self) -> bool:
        return not self.access & ~_LOOKS


@dataclass(frozen=True, slots=True)
class LeaseWish:
    """What a CREATE asks for."""

    key: bytes
    state: LeaseState
    version: int
    tell: Callable[[ServerLease, LeaseState, bool], None]


@dataclass(frozen=True, slots=True)
class Wish:
    """The parameters of a CREATE. `names` lead from the share's root to what is wanted."""

    names: Sequence[str]
    access: int
    disposition: int
    options: int = 0
    share_access: int = ShareAccess.ALL
    attributes: int = 0
    lease: LeaseWish | None = None


class Volume:
    """See the module's text. Methods raise Refused and MustWait, both before anything has changed."""

    def __init__(self, *, case_sensitive: bool = False) -> None:
        self.case_sensitive = case_sensitive
        self.times_wait_for_close = True
        """Whether the time of the last write is shown as it was, as long as a file is open."""
        self.cluster = (8, 512)
        """How many sectors a cluster has, and how many bytes a sector."""
        self.any_open_bars_replacing = False
        """Whether handles of other clients, too, keep a file from being replaced, as on Windows."""
        self.read_only_bars_replacing = False
        """Whether a file that is read-only can't be replaced, as on Windows."""
        self.renames_break_leases = False
        """Whether a new name waits until others have given their handles back, as on Windows and Samba 4.22."""
        self.reuses_ids = False
        """Whether the id of what was removed is given to the next new file."""
        self.features = 0
        """FileSystemAttributes of the volume."""
        self.allocates = False
        """Whether room is kept for a file whose allocation size is set, as on Windows; Samba keeps none."""
        self.room = 1 << 39
        """Bytes that can be allocated for one file."""
        self.has_ranges = True
        """Whether it can say which parts of files are allocated, and change that."""
        self.ranges_in_parts = False
        """Whether as many ranges as there is room for are an answer, as on Windows; Samba gives all or none."""
        self.refuses_clones = False
        """Whether clones are refused, whatever `features` says."""
        self.clones = 0
        """Clones that were made."""
        self.leases = Leases()
        self.clock: Callable[[], float] = lambda: 0.0
        """Seconds since the volume's time began."""
        self.now = START
        self._last_id = FIRST_ID
        self._free_ids: list[int] = []
        self._last_handle = 0
        self.opens: dict[bytes, Open] = {}
        self.root = self._new(is_directory=True)

    # -- time and names ---------------------------------------------------------------------------------------------

    def tick(self) -> int:
        """The time of a change that happens now: later than all before."""
        self.now = max(self.now + TICK, START + int(self.clock() * 10**9) // TICK * TICK)
        return self.now

    def key(self, name: str) -> str:
        return name if self.case_sensitive else name.upper()

    def child(self, folder: Inode, name: str) -> Inode | None:
        entry = folder.children.get(self.key(name))
        return None if entry is None else entry[1]

    def at(self, path: str) -> Inode:
        """For tests: the file or folder at a path with slashes. Raises: KeyError: there is none."""
        inode = self.root
        for name in path.split("/") if path else ():
            inode = inode.children[self.key(name)][1]
        return inode

    def walk(self, folder: Inode | None = None, above: str = "") -> Iterator[tuple[str, Inode]]:
        """For tests: all paths, and what is there."""
        for name, inode in (folder or self.root).children.values():
            yield above + name, inode
            if inode.is_directory:
                yield from self.walk(inode, f"{above}{name}/")

    def add_file(self, path: str, data: bytes = b"") -> Inode:
        """For tests: makes a file behind the server's back."""
        inode = self._new(is_directory=False)
        inode.data += data
        self._put(*self._folder_of(path.split("/")), inode)
        return inode

    def add_folder(self, path: str) -> Inode:
        """For tests."""
        inode = self._new(is_directory=True)
        self._put(*self._folder_of(path.split("/")), inode)
        return inode

    def add_name(self, path: str, inode: Inode) -> None:
        """For tests: one more name for a file."""
        self._put(*self._folder_of(path.split("/")), inode)

    def remove(self, path: str) -> None:
        """For tests: takes a name away behind the server's back."""
        folder, name = self._folder_of(path.split("/"))
        self._unlink(folder, self.key(name))

    def _folder_of(self, names: Sequence[str]) -> tuple[Inode, str]:
        folder = self.root
        for name in names[:-1]:
            found = self.child(folder, name)
            if found is None or not found.is_directory:
                raise Refused(NtStatus.OBJECT_PATH_NOT_FOUND)
            folder = found
        return folder, names[-1]

    def _new(self, *, is_directory: bool) -> Inode:
        if self._free_ids:
            file_id = self._free_ids.pop()
        else:
            file_id = self._last_id = self._last_id + 1
        now = self.tick()
        attributes = 0 if is_directory else int(FileAttributes.FILE_ATTRIBUTE_ARCHIVE)
        return Inode(file_id, is_directory, now, now, now, now, attributes)

    def _put(self, folder: Inode, name: str, inode: Inode) -> None:
        key = self.key(name)
        assert key not in folder.children
        folder.children[key] = (name, inode)
        inode.names.append((folder, key))
        self._changed_folder(folder)

    def _unlink(self, folder: Inode, key: str) -> None:
        _, inode = folder.children.pop(key)
        inode.names.remove((folder, key))
        inode.changed = self._changed_folder(folder)
        self._free(inode)

    def _free(self, inode: Inode) -> None:
        if self.reuses_ids and not inode.names and not inode.opens:
            self._free_ids.append(inode.file_id)

    def _changed_folder(self, folder: Inode) -> int:
        folder.written = folder.changed = self.tick()
        return self.now

    # -- handles ----------------------------------------------------------------------------------------------------

    def create(self, client: object, wish: Wish) -> tuple[Open, int]:
        """CREATE (MS-SMB2 3.3.5.9). The handle, and the CreateAction: 1 opened, 2 made, 3 overwritten."""
        if not wish.names:
            return self._opened(client, self.root, None, wish), 1
        folder, name = self._folder_of(wish.names)
        inode = self.child(folder, name)
        lease = self._known_lease(client, inode, wish)
        if inode is None:
            if wish.disposition in (CreateDisposition.FILE_OPEN, CreateDisposition.FILE_OVERWRITE):
                raise Refused(NtStatus.OBJECT_NAME_NOT_FOUND)
            return self._made(client, folder, name, wish), 2
        place = (folder, self.key(name))
        self._check_open(inode, place, wish)
        overwrites = wish.disposition in (
            CreateDisposition.FILE_OVERWRITE,
            CreateDisposition.FILE_OVERWRITE_IF,
            CreateDisposition.FILE_SUPERSEDE,
        )
        if overwrites:
            self._check_overwrite(inode, wish)
        self._make_others_agree(inode, lease, wish, overwrites=overwrites)
        opened = self._opened(client, inode, place, wish, lease)
        if overwrites:
            inode.attributes = int(
                wish.attributes & ~FileAttributes.FILE_ATTRIBUTE_NORMAL | FileAttributes.FILE_ATTRIBUTE_ARCHIVE
            )
            self._resize(inode, 0)
        return opened, 3 if overwrites else 1

    def _known_lease(self, client: object, inode: Inode | None, wish: Wish) -> ServerLease | None:
        return None if wish.lease is None else self.leases.find(client, wish.lease.key, inode)

    def _check_open(self, inode: Inode, place: tuple[Inode, str], wish: Wish) -> None:
        if wish.disposition == CreateDisposition.FILE_CREATE:
            raise Refused(NtStatus.OBJECT_NAME_COLLISION)
        if place in inode.pending:
            raise Refused(NtStatus.DELETE_PENDING)
        if wish.options & CreateOptions.FILE_DIRECTORY_FILE and not inode.is_directory:
            raise Refused(NtStatus.NOT_A_DIRECTORY)
        if wish.options & CreateOptions.FILE_NON_DIRECTORY_FILE and inode.is_directory:
            raise Refused(NtStatus.FILE_IS_A_DIRECTORY)
        writes = wish.access & (Access.FILE_WRITE_DATA | Access.FILE_APPEND_DATA)
        if writes and inode.attributes & FileAttributes.FILE_ATTRIBUTE_READONLY:
            raise Refused(NtStatus.ACCESS_DENIED)

    def _check_overwrite(self, inode: Inode, wish: Wish) -> None:
        lost = inode.attributes & ~wish.attributes & KEPT_ATTRIBUTES
        if inode.is_directory or lost or inode.attributes & FileAttributes.FILE_ATTRIBUTE_READONLY:
            raise Refused(NtStatus.ACCESS_DENIED)

    def _make_others_agree(self, inode: Inode, lease: ServerLease | None, wish: Wish, *, overwrites: bool) -> None:
        """Sharing, and what other clients keep of the file (MS-FSA 2.1.5.1.2)."""
        if not wish.access & ~_LOOKS and not overwrites:
            return
        if any(_excludes(other, wish) for other in inode.opens):
            self.leases.take_back(
                inode, lease, LeaseState.SMB2_LEASE_HANDLE_CACHING, LeaseState.SMB2_LEASE_HANDLE_CACHING
            )
            raise Refused(NtStatus.SHARING_VIOLATION)
        lost = LeaseState.ALL if overwrites else LeaseState.SMB2_LEASE_WRITE_CACHING
        self.leases.take_back(inode, lease, lost, LeaseState.SMB2_LEASE_WRITE_CACHING)

    def _made(self, client: object, folder: Inode, name: str, wish: Wish) -> Open:
        if (folder_place := folder.names[:1]) and folder_place[0] in folder.pending:
            raise Refused(NtStatus.DELETE_PENDING)
        inode = self._new(is_directory=bool(wish.options & CreateOptions.FILE_DIRECTORY_FILE))
        inode.attributes |= int(
            wish.attributes & ~FileAttributes.FILE_ATTRIBUTE_NORMAL & ~FileAttributes.FILE_ATTRIBUTE_DIRECTORY
        )
        self._put(folder, name, inode)
        return self._opened(client, inode, (folder, self.key(name)), wish)

    def _opened(
        self,
        client: object,
        inode: Inode,
        place: tuple[Inode, str] | None,
        wish: Wish,
        lease: ServerLease | None = None,
    ) -> Open:
        self._last_handle += 1
        handle = self._last_handle.to_bytes(8, "little") * 2
        opened = Open(handle, client, inode, place, wish.access, wish.share_access)
        opened.delete_on_close = bool(wish.options & CreateOptions.FILE_DELETE_ON_CLOSE)
        if not inode.opens and self.times_wait_for_close and not inode.is_directory:
            inode.shown = inode.written
        inode.opens.append(opened)
        self.opens[handle] = opened
        if wish.lease is not None and not inode.is_directory and not opened.only_looks:
            asked = wish.lease
            lease = lease or ServerLease(asked.key, client, inode, asked.version, asked.tell)
            self.leases.grant(lease, opened, asked.state)
        return opened

    def close(self, opened: Open) -> None:
        """Closes a handle; with the last one go names that are to be deleted, and the time that was shown."""
        inode = opened.inode
        del self.opens[opened.handle]
        inode.opens.remove(opened)
        self.leases.closed(opened)
        if opened.wrote and not opened.set_time:
            inode.written = self.tick()
            inode.shown = inode.written if inode.shown is not None else None
        if not inode.opens:
            inode.shown = None
        if opened.delete_on_close and opened.place is not None and opened.place not in inode.pending:
            inode.pending.append(opened.place)
        place = opened.place
        if place in inode.pending and not any(other.place == place for other in inode.opens):
            assert place is not None
            inode.pending.remove(place)
            if place in inode.names:
                return self._unlink(*place)
        self._free(inode)

    def close_all(self, client: object) -> None:
        """A connection has ended."""
        for opened in [opened for opened in self.opens.values() if opened.client is client]:
            self.close(opened)

    def lose_handles(self) -> None:
        """The server was killed: nothing is open, and what was to be removed by the last close stays."""
        for opened in list(self.opens.values()):
            opened.inode.pending.clear()
            opened.delete_on_close = False
            self.close(opened)

    # -- data -------------------------------------------------------------------------------------------------------

    def read(self, opened: Open, offset: int, size: int) -> bytes:
        self._needs(opened, Access.FILE_READ_DATA)
        data = bytes(opened.inode.data[offset : offset + size])
        if size and not data:
            raise Refused(NtStatus.END_OF_FILE)
        return data

    def write(self, opened: Open, offset: int, data: bytes) -> None:
        self._needs(opened, Access.FILE_WRITE_DATA | Access.FILE_APPEND_DATA)
        inode = opened.inode
        self.leases.take_back(inode, opened.lease, LeaseState.ALL, LeaseState.SMB2_LEASE_NONE)
        if offset > len(inode.data):
            inode.data.extend(bytes(offset - len(inode.data)))
        inode.data[offset : offset + len(data)] = data
        opened.wrote = True
        self._written(inode)

    def set_size(self, opened: Open, size: int) -> None:
        self._needs(opened, Access.FILE_WRITE_DATA)
        self.leases.take_back(opened.inode, opened.lease, LeaseState.ALL, LeaseState.SMB2_LEASE_NONE)
        opened.wrote = True
        self._resize(opened.inode, size)

    def _resize(self, inode: Inode, size: int) -> None:
        """Cutting a file shows in its time at once, also while it is open."""
        del inode.data[size:]
        inode.data.extend(bytes(size - len(inode.data)))
        self._written(inode)
        if inode.shown is not None:
            inode.shown = inode.written

    def _written(self, inode: Inode) -> None:
        inode.written = inode.changed = self.tick()

    def _needs(self, opened: Open, access: int) -> None:
        if not opened.access & access:
            raise Refused(NtStatus.ACCESS_DENIED)
        if opened.inode.is_directory and access & Access.FILE_WRITE_DATA:
            raise Refused(NtStatus.INVALID_DEVICE_REQUEST)

    # -- what SET_INFO does -----------------------------------------------------------------------------------------

    def set_basic(self, opened: Open, accessed: int, written: int, attributes: int) -> None:
        """Times in nanoseconds, 0: as it is."""
        self._needs(opened, Access.FILE_WRITE_ATTRIBUTES)
        inode = opened.inode
        inode.changed = self.tick()
        inode.accessed = accessed or inode.accessed
        if written:
            inode.written = written
            inode.shown = written if inode.shown is not None else None
            opened.set_time = True
        if attributes:
            inode.attributes = attributes & ~int(
                FileAttributes.FILE_ATTRIBUTE_NORMAL | FileAttributes.FILE_ATTRIBUTE_DIRECTORY
            )

    def set_disposition(self, opened: Open, *, delete: bool) -> None:
        self._needs(opened, Access.DELETE)
        inode, place = opened.inode, opened.place
        if not delete:
            inode.pending = [other for other in inode.pending if other != place]
            return
        if inode.attributes & FileAttributes.FILE_ATTRIBUTE_READONLY:
            raise Refused(NtStatus.CANNOT_DELETE)
        if inode.children:
            raise Refused(NtStatus.DIRECTORY_NOT_EMPTY)
        if place is None:
            raise Refused(NtStatus.ACCESS_DENIED)
        if place not in inode.pending:
            inode.pending.append(place)

    def rename(self, opened: Open, names: Sequence[str], *, replace: bool) -> None:
        self._needs(opened, Access.DELETE)
        inode, place = opened.inode, opened.place
        if place is None or place not in inode.names:
            raise Refused(NtStatus.ACCESS_DENIED if place is None else NtStatus.OBJECT_NAME_NOT_FOUND)
        folder, name = self._folder_of(names)
        target = self.child(folder, name)
        is_same_place = (folder, self.key(name)) == place
        if target is not None and not is_same_place:
            self._check_replace(opened, target, replace=replace)
        if inode.is_directory and any(_is_within(other.inode, inode) for other in self.opens.values()):
            raise Refused(NtStatus.ACCESS_DENIED)
        if self.renames_break_leases:
            self.leases.take_back(
                inode, opened.lease, LeaseState.SMB2_LEASE_HANDLE_CACHING, LeaseState.SMB2_LEASE_HANDLE_CACHING
            )
        if target is not None and not is_same_place:
            self._unlink(folder, self.key(name))
        self._move(inode, place, folder, name)

    def _check_replace(self, opened: Open, target: Inode, *, replace: bool) -> None:
        if not replace:
            raise Refused(NtStatus.OBJECT_NAME_COLLISION)
        barring = [other for other in target.opens if self.any_open_bars_replacing or other.client is opened.client]
        is_read_only = self.read_only_bars_replacing and target.attributes & FileAttributes.FILE_ATTRIBUTE_READONLY
        if target.is_directory or barring or is_read_only:
            raise Refused(NtStatus.ACCESS_DENIED)

    def _move(self, inode: Inode, place: tuple[Inode, str], folder: Inode, name: str) -> None:
        """Handles that were opened by the old name are handles of the new one."""
        self._unlink(*place)
        self._put(folder, name, inode)
        new = (folder, self.key(name))
        for other in inode.opens:
            if other.place == place:
                other.place = new
        inode.pending = [new if other == place else other for other in inode.pending]

    def link(self, opened: Open, names: Sequence[str]) -> None:
        if opened.inode.is_directory:
            raise Refused(NtStatus.FILE_IS_A_DIRECTORY)
        folder, name = self._folder_of(names)
        if self.child(folder, name) is not None:
            raise Refused(NtStatus.OBJECT_NAME_COLLISION)
        self._put(folder, name, opened.inode)
        opened.inode.changed = self.now


def _excludes(other: Open, wish: Wish) -> bool:
    """Whether a handle and a new one do not bear each other."""
    if other.only_looks or not wish.access & ~_LOOKS:
        return False
    return any(
        (wish.access & access and not other.share_access & share)
        or (other.access & access and not wish.share_access & share)
        for access, share in _SHARED
    )


def _is_within(inode: Inode, folder: Inode) -> bool:
    """Whether something is below a folder, at any depth."""
    return any(above is folder or _is_within(above, folder) for above, _ in inode.names)
