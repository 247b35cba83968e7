"""The constants of SMB2 by the names that MS-SMB2 and MS-FSCC give them. Their numbers are smbprotocol's.

smbprotocol has no type information, and its classes are bags of numbers: here they become types, so that an access mask
is not taken for a create option. No number of the protocol is written down here; the few that smbprotocol lacks are in
missing_constants.py. Why, and what it costs: docs/decisions/001-smbprotocol-constants.md.

An attribute of an Enum takes five times as long as a global name, so code that runs for every message binds what it
needs once, at the top of its module.

Nothing else of smbprotocol is used: what reads a server's bytes is our own. Pure.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Final

import smbprotocol
from smbprotocol import (
    connection,
    create_contexts,
    file_info,
    header,
    ioctl,
    reparse_point,
    security_descriptor,
    tree,
)
from smbprotocol import open as opening

from dfsfs.smb.wire import missing_constants as missing

# -- messages ---------------------------------------------------------------------------------------------------------


class Command(IntEnum):
    """MS-SMB2 2.2.1.2, Command."""

    SMB2_NEGOTIATE = header.Commands.SMB2_NEGOTIATE
    SMB2_SESSION_SETUP = header.Commands.SMB2_SESSION_SETUP
    SMB2_LOGOFF = header.Commands.SMB2_LOGOFF
    SMB2_TREE_CONNECT = header.Commands.SMB2_TREE_CONNECT
    SMB2_TREE_DISCONNECT = header.Commands.SMB2_TREE_DISCONNECT
    SMB2_CREATE = header.Commands.SMB2_CREATE
    SMB2_CLOSE = header.Commands.SMB2_CLOSE
    SMB2_FLUSH = header.Commands.SMB2_FLUSH
    SMB2_READ = header.Commands.SMB2_READ
    SMB2_WRITE = header.Commands.SMB2_WRITE
    SMB2_LOCK = header.Commands.SMB2_LOCK
    SMB2_IOCTL = header.Commands.SMB2_IOCTL
    SMB2_CANCEL = header.Commands.SMB2_CANCEL
    SMB2_ECHO = header.Commands.SMB2_ECHO
    SMB2_QUERY_DIRECTORY = header.Commands.SMB2_QUERY_DIRECTORY
    SMB2_CHANGE_NOTIFY = header.Commands.SMB2_CHANGE_NOTIFY
    SMB2_QUERY_INFO = header.Commands.SMB2_QUERY_INFO
    SMB2_SET_INFO = header.Commands.SMB2_SET_INFO
    SMB2_OPLOCK_BREAK = header.Commands.SMB2_OPLOCK_BREAK

    @property
    def word(self) -> str:
        """The command for people: `READ`."""
        return self.name.removeprefix("SMB2_")


SMB2_FLAGS_SERVER_TO_REDIR: Final = int(header.Smb2Flags.SMB2_FLAGS_SERVER_TO_REDIR)
SMB2_FLAGS_ASYNC_COMMAND: Final = int(header.Smb2Flags.SMB2_FLAGS_ASYNC_COMMAND)
SMB2_FLAGS_RELATED_OPERATIONS: Final = int(header.Smb2Flags.SMB2_FLAGS_RELATED_OPERATIONS)
SMB2_FLAGS_SIGNED: Final = int(header.Smb2Flags.SMB2_FLAGS_SIGNED)
SMB2_FLAGS_DFS_OPERATIONS: Final = int(header.Smb2Flags.SMB2_FLAGS_DFS_OPERATIONS)
"""MS-SMB2 2.2.1.2, Flags. Plain numbers: an IntFlag takes a microsecond for each `&`, and no message has none."""


# -- negotiate, session setup, tree connect ---------------------------------------------------------------------------


class Dialect(IntEnum):
    """MS-SMB2 2.2.3. 2.0.2 is left out: it has no large requests, and every server of the last decade speaks 2.1.
    The names are shown to people.
    """

    SMB_2_1 = smbprotocol.Dialects.SMB_2_1_0
    SMB_3_0 = smbprotocol.Dialects.SMB_3_0_0
    SMB_3_0_2 = smbprotocol.Dialects.SMB_3_0_2
    SMB_3_1_1 = smbprotocol.Dialects.SMB_3_1_1


class Cipher(IntEnum):
    """MS-SMB2 2.2.3.1.2."""

    AES_128_CCM = connection.Ciphers.AES_128_CCM
    AES_128_GCM = connection.Ciphers.AES_128_GCM
    AES_256_CCM = connection.Ciphers.AES_256_CCM
    AES_256_GCM = connection.Ciphers.AES_256_GCM


class SigningAlgorithm(IntEnum):
    """MS-SMB2 2.2.3.1.7."""

    HMAC_SHA256 = connection.SigningAlgorithms.HMAC_SHA256
    AES_CMAC = connection.SigningAlgorithms.AES_CMAC
    AES_GMAC = connection.SigningAlgorithms.AES_GMAC


SHA_512: Final = int(connection.HashAlgorithms.SHA_512)
"""MS-SMB2 2.2.3.1.1, HashAlgorithms."""

SMB2_NEGOTIATE_SIGNING_ENABLED: Final = int(connection.SecurityMode.SMB2_NEGOTIATE_SIGNING_ENABLED)
SMB2_NEGOTIATE_SIGNING_REQUIRED: Final = int(connection.SecurityMode.SMB2_NEGOTIATE_SIGNING_REQUIRED)
"""MS-SMB2 2.2.3, SecurityMode."""

SMB2_GLOBAL_CAP_DFS: Final = int(connection.Capabilities.SMB2_GLOBAL_CAP_DFS)
SMB2_GLOBAL_CAP_LEASING: Final = int(connection.Capabilities.SMB2_GLOBAL_CAP_LEASING)
SMB2_GLOBAL_CAP_LARGE_MTU: Final = int(connection.Capabilities.SMB2_GLOBAL_CAP_LARGE_MTU)
SMB2_GLOBAL_CAP_ENCRYPTION: Final = int(connection.Capabilities.SMB2_GLOBAL_CAP_ENCRYPTION)
"""MS-SMB2 2.2.3, Capabilities."""

SMB2_PREAUTH_INTEGRITY_CAPABILITIES: Final = int(connection.NegotiateContextType.SMB2_PREAUTH_INTEGRITY_CAPABILITIES)
SMB2_ENCRYPTION_CAPABILITIES: Final = int(connection.NegotiateContextType.SMB2_ENCRYPTION_CAPABILITIES)
SMB2_NETNAME_NEGOTIATE_CONTEXT_ID: Final = int(connection.NegotiateContextType.SMB2_NETNAME_NEGOTIATE_CONTEXT_ID)
SMB2_SIGNING_CAPABILITIES: Final = int(connection.NegotiateContextType.SMB2_SIGNING_CAPABILITIES)
"""MS-SMB2 2.2.3.1, ContextType."""

SMB2_SESSION_FLAG_IS_GUEST: Final = missing.SMB2_SESSION_FLAG_IS_GUEST
SMB2_SESSION_FLAG_IS_NULL: Final = missing.SMB2_SESSION_FLAG_IS_NULL
SMB2_SESSION_FLAG_ENCRYPT_DATA: Final = missing.SMB2_SESSION_FLAG_ENCRYPT_DATA
"""MS-SMB2 2.2.6, SessionFlags."""

SMB2_SHAREFLAG_ENCRYPT_DATA: Final = int(tree.ShareFlags.SMB2_SHAREFLAG_ENCRYPT_DATA)
"""MS-SMB2 2.2.10, ShareFlags."""
SMB2_SHARE_CAP_DFS: Final = int(tree.ShareCapabilities.SMB2_SHARE_CAP_DFS)
"""MS-SMB2 2.2.10, Capabilities."""


# -- opening and closing ----------------------------------------------------------------------------------------------

_Mask = opening.FilePipePrinterAccessMask


class Access(IntFlag):
    """Access mask of a file or directory (MS-SMB2 2.2.13.1)."""

    FILE_READ_DATA = _Mask.FILE_READ_DATA
    FILE_WRITE_DATA = _Mask.FILE_WRITE_DATA
    FILE_APPEND_DATA = _Mask.FILE_APPEND_DATA
    FILE_READ_EA = _Mask.FILE_READ_EA
    FILE_WRITE_EA = _Mask.FILE_WRITE_EA
    FILE_EXECUTE = _Mask.FILE_EXECUTE
    FILE_DELETE_CHILD = _Mask.FILE_DELETE_CHILD
    FILE_READ_ATTRIBUTES = _Mask.FILE_READ_ATTRIBUTES
    FILE_WRITE_ATTRIBUTES = _Mask.FILE_WRITE_ATTRIBUTES
    DELETE = _Mask.DELETE
    READ_CONTROL = _Mask.READ_CONTROL
    WRITE_DAC = _Mask.WRITE_DAC
    WRITE_OWNER = _Mask.WRITE_OWNER
    SYNCHRONIZE = _Mask.SYNCHRONIZE
    GENERIC_ALL = _Mask.GENERIC_ALL
    GENERIC_EXECUTE = _Mask.GENERIC_EXECUTE
    GENERIC_WRITE = _Mask.GENERIC_WRITE
    GENERIC_READ = _Mask.GENERIC_READ

    READ = FILE_READ_DATA | FILE_READ_EA | FILE_READ_ATTRIBUTES | READ_CONTROL | SYNCHRONIZE
    """What the programs of this computer read files with."""
    WRITE = (
        FILE_WRITE_DATA
        | FILE_APPEND_DATA
        | FILE_WRITE_EA
        | FILE_WRITE_ATTRIBUTES
        | FILE_READ_ATTRIBUTES
        | READ_CONTROL
        | SYNCHRONIZE
    )
    """What they write files with."""


class ShareAccess(IntFlag):
    """What others may do with a file while it is open (MS-SMB2 2.2.13)."""

    NONE = 0
    FILE_SHARE_READ = opening.ShareAccess.FILE_SHARE_READ
    FILE_SHARE_WRITE = opening.ShareAccess.FILE_SHARE_WRITE
    FILE_SHARE_DELETE = opening.ShareAccess.FILE_SHARE_DELETE
    ALL = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE


class CreateDisposition(IntEnum):
    """What CREATE does if the file exists or not (MS-SMB2 2.2.13)."""

    FILE_SUPERSEDE = opening.CreateDisposition.FILE_SUPERSEDE
    FILE_OPEN = opening.CreateDisposition.FILE_OPEN
    FILE_CREATE = opening.CreateDisposition.FILE_CREATE
    FILE_OPEN_IF = opening.CreateDisposition.FILE_OPEN_IF
    FILE_OVERWRITE = opening.CreateDisposition.FILE_OVERWRITE
    FILE_OVERWRITE_IF = opening.CreateDisposition.FILE_OVERWRITE_IF


class CreateOptions(IntFlag):
    """MS-SMB2 2.2.13, CreateOptions. FILE_OPEN_REPARSE_POINT is left out on purpose: with it a Samba 4.22 server opens
    a DFS link itself, and a delete through that handle takes the link out of the namespace. Only compounds.py
    and special.py use it.
    """

    NONE = 0
    FILE_DIRECTORY_FILE = opening.CreateOptions.FILE_DIRECTORY_FILE
    FILE_WRITE_THROUGH = opening.CreateOptions.FILE_WRITE_THROUGH
    FILE_SEQUENTIAL_ONLY = opening.CreateOptions.FILE_SEQUENTIAL_ONLY
    FILE_NON_DIRECTORY_FILE = opening.CreateOptions.FILE_NON_DIRECTORY_FILE
    FILE_RANDOM_ACCESS = opening.CreateOptions.FILE_RANDOM_ACCESS
    FILE_DELETE_ON_CLOSE = opening.CreateOptions.FILE_DELETE_ON_CLOSE


FILE_OPEN_REPARSE_POINT: Final = CreateOptions(opening.CreateOptions.FILE_OPEN_REPARSE_POINT)
"""See CreateOptions."""

SMB2_OPLOCK_LEVEL_LEASE: Final = int(opening.RequestedOplockLevel.SMB2_OPLOCK_LEVEL_LEASE)
"""RequestedOplockLevel of a CREATE that asks for a lease in a context (MS-SMB2 2.2.13)."""
IMPERSONATION: Final = int(opening.ImpersonationLevel.Impersonation)
"""MS-SMB2 2.2.13, ImpersonationLevel."""
SMB2_CREATE_TIMEWARP_TOKEN: Final = bytes(create_contexts.CreateContextName.SMB2_CREATE_TIMEWARP_TOKEN)
SMB2_CREATE_REQUEST_LEASE: Final = bytes(create_contexts.CreateContextName.SMB2_CREATE_REQUEST_LEASE)
"""Names of create contexts (MS-SMB2 2.2.13.2)."""
SMB2_CLOSE_FLAG_POSTQUERY_ATTRIB: Final = int(opening.CloseFlags.SMB2_CLOSE_FLAG_POSTQUERY_ATTRIB)
"""MS-SMB2 2.2.15, Flags."""


class LeaseState(IntFlag):
    """The parts of a lease (MS-SMB2 2.2.13.2.8)."""

    SMB2_LEASE_NONE = create_contexts.LeaseState.SMB2_LEASE_NONE
    SMB2_LEASE_READ_CACHING = create_contexts.LeaseState.SMB2_LEASE_READ_CACHING
    SMB2_LEASE_HANDLE_CACHING = create_contexts.LeaseState.SMB2_LEASE_HANDLE_CACHING
    SMB2_LEASE_WRITE_CACHING = create_contexts.LeaseState.SMB2_LEASE_WRITE_CACHING
    SHARED = SMB2_LEASE_READ_CACHING | SMB2_LEASE_HANDLE_CACHING
    ALL = SMB2_LEASE_READ_CACHING | SMB2_LEASE_HANDLE_CACHING | SMB2_LEASE_WRITE_CACHING


SMB2_LEASE_FLAG_BREAK_IN_PROGRESS: Final = int(create_contexts.LeaseResponseFlags.SMB2_LEASE_FLAG_BREAK_IN_PROGRESS)
"""MS-SMB2 2.2.14.2.10, Flags."""


# -- asking and setting -----------------------------------------------------------------------------------------------


class InfoType(IntEnum):
    """What QUERY_INFO and SET_INFO are about (MS-SMB2 2.2.37)."""

    SMB2_0_INFO_FILE = file_info.InfoType.SMB2_0_INFO_FILE
    SMB2_0_INFO_FILESYSTEM = file_info.InfoType.SMB2_0_INFO_FILESYSTEM
    SMB2_0_INFO_SECURITY = file_info.InfoType.SMB2_0_INFO_SECURITY


class FileInformationClass(IntEnum):
    """The information classes that dfsfs asks for (MS-FSCC 2.4)."""

    FILE_BASIC_INFORMATION = file_info.FileInformationClass.FILE_BASIC_INFORMATION
    FILE_RENAME_INFORMATION = file_info.FileInformationClass.FILE_RENAME_INFORMATION
    FILE_LINK_INFORMATION = file_info.FileInformationClass.FILE_LINK_INFORMATION
    FILE_DISPOSITION_INFORMATION = file_info.FileInformationClass.FILE_DISPOSITION_INFORMATION
    FILE_FULL_EA_INFORMATION = file_info.FileInformationClass.FILE_FULL_EA_INFORMATION
    FILE_ALL_INFORMATION = file_info.FileInformationClass.FILE_ALL_INFORMATION
    FILE_ALLOCATION_INFORMATION = file_info.FileInformationClass.FILE_ALLOCATION_INFORMATION
    FILE_END_OF_FILE_INFORMATION = file_info.FileInformationClass.FILE_END_OF_FILE_INFORMATION
    FILE_STREAM_INFORMATION = file_info.FileInformationClass.FILE_STREAM_INFORMATION
    FILE_ID_BOTH_DIRECTORY_INFORMATION = file_info.FileInformationClass.FILE_ID_BOTH_DIRECTORY_INFORMATION


class FileSystemInformationClass(IntEnum):
    """Volume information classes (MS-FSCC 2.5)."""

    FILE_FS_ATTRIBUTE_INFORMATION = file_info.FileSystemInformationClass.FILE_FS_ATTRIBUTE_INFORMATION
    FILE_FS_FULL_SIZE_INFORMATION = file_info.FileSystemInformationClass.FILE_FS_FULL_SIZE_INFORMATION


class SecurityInformation(IntFlag):
    """The parts of a security descriptor (MS-SMB2 2.2.37, AdditionalInformation; MS-DTYP 2.4.7)."""

    OWNER_SECURITY_INFORMATION = opening.InfoAdditionalInformation.OWNER_SECURTIY_INFORMATION  # spelled like that there
    GROUP_SECURITY_INFORMATION = opening.InfoAdditionalInformation.GROUP_SECURITY_INFORMATION
    DACL_SECURITY_INFORMATION = opening.InfoAdditionalInformation.DACL_SECURITY_INFORMATION


class CtlCode(IntEnum):
    """IOCTL control codes (MS-SMB2 2.2.31)."""

    FSCTL_DFS_GET_REFERRALS = ioctl.CtlCode.FSCTL_DFS_GET_REFERRALS
    FSCTL_DFS_GET_REFERRALS_EX = ioctl.CtlCode.FSCTL_DFS_GET_REFERRALS_EX
    FSCTL_VALIDATE_NEGOTIATE_INFO = ioctl.CtlCode.FSCTL_VALIDATE_NEGOTIATE_INFO
    FSCTL_SET_REPARSE_POINT = ioctl.CtlCode.FSCTL_SET_REPARSE_POINT
    FSCTL_GET_REPARSE_POINT = ioctl.CtlCode.FSCTL_GET_REPARSE_POINT
    FSCTL_SRV_ENUMERATE_SNAPSHOTS = ioctl.CtlCode.FSCTL_SRV_ENUMERATE_SNAPSHOTS
    FSCTL_SRV_REQUEST_RESUME_KEY = ioctl.CtlCode.FSCTL_SRV_REQUEST_RESUME_KEY
    FSCTL_SRV_COPYCHUNK_WRITE = ioctl.CtlCode.FSCTL_SRV_COPYCHUNK_WRITE
    FSCTL_SET_SPARSE = ioctl.CtlCode.FSCTL_SET_SPARSE
    FSCTL_SET_ZERO_DATA = ioctl.CtlCode.FSCTL_SET_ZERO_DATA
    FSCTL_QUERY_ALLOCATED_RANGES = ioctl.CtlCode.FSCTL_QUERY_ALLOCATED_RANGES
    FSCTL_DUPLICATE_EXTENTS_TO_FILE = missing.FSCTL_DUPLICATE_EXTENTS_TO_FILE


SMB2_0_IOCTL_IS_FSCTL: Final = int(ioctl.IOCTLFlags.SMB2_0_IOCTL_IS_FSCTL)
"""MS-SMB2 2.2.31, Flags."""


# -- files ------------------------------------------------------------------------------------------------------------


class FileAttributes(IntFlag):
    """MS-FSCC 2.6."""

    FILE_ATTRIBUTE_READONLY = file_info.FileAttributes.FILE_ATTRIBUTE_READONLY
    FILE_ATTRIBUTE_HIDDEN = file_info.FileAttributes.FILE_ATTRIBUTE_HIDDEN
    FILE_ATTRIBUTE_SYSTEM = file_info.FileAttributes.FILE_ATTRIBUTE_SYSTEM
    FILE_ATTRIBUTE_DIRECTORY = file_info.FileAttributes.FILE_ATTRIBUTE_DIRECTORY
    FILE_ATTRIBUTE_ARCHIVE = file_info.FileAttributes.FILE_ATTRIBUTE_ARCHIVE
    FILE_ATTRIBUTE_NORMAL = file_info.FileAttributes.FILE_ATTRIBUTE_NORMAL
    FILE_ATTRIBUTE_SPARSE_FILE = file_info.FileAttributes.FILE_ATTRIBUTE_SPARSE_FILE
    FILE_ATTRIBUTE_REPARSE_POINT = file_info.FileAttributes.FILE_ATTRIBUTE_REPARSE_POINT


class FileSystemAttributes(IntFlag):
    """What the file system below a share can do (MS-FSCC 2.5.1)."""

    FILE_NAMED_STREAMS = missing.FILE_NAMED_STREAMS
    FILE_READ_ONLY_VOLUME = missing.FILE_READ_ONLY_VOLUME
    FILE_SUPPORTS_BLOCK_REFCOUNTING = missing.FILE_SUPPORTS_BLOCK_REFCOUNTING


class ReparseTag(IntEnum):
    """The tags that dfsfs knows by name (MS-FSCC 2.1.2.1)."""

    IO_REPARSE_TAG_DFS = reparse_point.ReparseTags.IO_REPARSE_TAG_DFS
    """A DFS link in a namespace root."""
    IO_REPARSE_TAG_DFSR = reparse_point.ReparseTags.IO_REPARSE_TAG_DFSR
    """A directory that DFS Replication manages; servers show DFS links with it, too."""
    IO_REPARSE_TAG_MOUNT_POINT = reparse_point.ReparseTags.IO_REPARSE_TAG_MOUNT_POINT
    IO_REPARSE_TAG_SYMLINK = reparse_point.ReparseTags.IO_REPARSE_TAG_SYMLINK
    IO_REPARSE_TAG_NFS = reparse_point.ReparseTags.IO_REPARSE_TAG_NFS
    IO_REPARSE_TAG_AF_UNIX = reparse_point.ReparseTags.IO_REPARSE_TAG_AF_UNIX
    IO_REPARSE_TAG_LX_SYMLINK = reparse_point.ReparseTags.IO_REPARSE_TAG_LX_SYMLINK
    IO_REPARSE_TAG_LX_FIFO = missing.IO_REPARSE_TAG_LX_FIFO
    IO_REPARSE_TAG_LX_CHR = missing.IO_REPARSE_TAG_LX_CHR
    IO_REPARSE_TAG_LX_BLK = missing.IO_REPARSE_TAG_LX_BLK


SYMLINK_FLAG_RELATIVE: Final = int(reparse_point.SymbolicLinkFlags.SYMLINK_FLAG_RELATIVE)
"""MS-FSCC 2.1.2.4, Flags."""


# -- security descriptors ---------------------------------------------------------------------------------------------


class AceType(IntEnum):
    """MS-DTYP 2.4.4.1, AceType: those that have a text here."""

    ACCESS_ALLOWED_ACE_TYPE = security_descriptor.AceType.ACCESS_ALLOWED_ACE_TYPE
    ACCESS_DENIED_ACE_TYPE = security_descriptor.AceType.ACCESS_DENIED_ACE_TYPE
    ACCESS_ALLOWED_OBJECT_ACE_TYPE = security_descriptor.AceType.ACCESS_ALLOWED_OBJECT_ACE_TYPE
    ACCESS_DENIED_OBJECT_ACE_TYPE = security_descriptor.AceType.ACCESS_DENIED_OBJECT_ACE_TYPE


class AceFlags(IntFlag):
    """MS-DTYP 2.4.4.1, AceFlags."""

    OBJECT_INHERIT_ACE = security_descriptor.AceFlags.OBJECT_INHERIT_ACE
    CONTAINER_INHERIT_ACE = security_descriptor.AceFlags.CONTAINER_INHERIT_ACE
    NO_PROPAGATE_INHERIT_ACE = security_descriptor.AceFlags.NO_PROPAGATE_INHERITY_ACE  # spelled like that there
    INHERIT_ONLY_ACE = security_descriptor.AceFlags.INHERIT_ONLY_ACE
    INHERITED_ACE = security_descriptor.AceFlags.INHERITED_ACE


class SecurityControl(IntFlag):
    """MS-DTYP 2.4.6, Control: the bits of the DACL."""

    DACL_PRESENT = security_descriptor.SDControl.DACL_PRESENT
    DACL_COMPUTED_INHERITANCE_REQUIRED = security_descriptor.SDControl.DACL_COMPUTED_INHERITANCE_REQUIRED
    DACL_AUTO_INHERITED = security_descriptor.SDControl.DACL_AUTO_INHERITED
    DACL_PROTECTED = security_descriptor.SDControl.DACL_PROTECTED
