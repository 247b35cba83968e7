"""The constants of SMB2 that smbprotocol lacks, or has in a module that takes long to import, with our own numbers. All
others are in constants.py.

The statuses that it lacks are in dfsfs/ntstatus.py, beside the others. `tests/unit/smb/test_constants.py` says so when
smbprotocol has got one of these: then it goes. Pure.
"""

from __future__ import annotations

from typing import Final

IO_REPARSE_TAG_LX_FIFO: Final = 0x80000024
IO_REPARSE_TAG_LX_CHR: Final = 0x80000025
IO_REPARSE_TAG_LX_BLK: Final = 0x80000026
"""What the Linux subsystem of Windows makes (MS-FSCC 2.1.2.1). Of those smbprotocol 1.17 has the symbolic link only."""

NFS_SPECFILE_LNK: Final = 0x00000000_014B4E4C
NFS_SPECFILE_CHR: Final = 0x00000000_00524843
NFS_SPECFILE_BLK: Final = 0x00000000_004B4C42
NFS_SPECFILE_FIFO: Final = 0x00000000_4F464946
NFS_SPECFILE_SOCK: Final = 0x00000000_4B434F53
"""The Type in a reparse point of an NFS server (MS-FSCC 2.1.2.6). smbprotocol has no codec for it."""

FILE_NAMED_STREAMS: Final = 0x00040000
FILE_READ_ONLY_VOLUME: Final = 0x00080000
FILE_SUPPORTS_BLOCK_REFCOUNTING: Final = 0x08000000
"""FileSystemAttributes (MS-FSCC 2.5.1). smbprotocol has no FileFsAttributeInformation."""

SMB2_NOTIFY_BREAK_LEASE_FLAG_ACK_REQUIRED: Final = 0x00000001
"""Flags of a lease break (MS-SMB2 2.2.23.2). smbprotocol takes no breaks in."""

FSCTL_DUPLICATE_EXTENTS_TO_FILE: Final = 0x00098344
"""A control code (MS-FSCC 2.3)."""

SMB2_SESSION_FLAG_IS_GUEST: Final = 0x0001
SMB2_SESSION_FLAG_IS_NULL: Final = 0x0002
SMB2_SESSION_FLAG_ENCRYPT_DATA: Final = 0x0004
"""SessionFlags (MS-SMB2 2.2.6). smbprotocol.session has them, and imports spnego, which only logins need: smb/pool.py.
The test compares them.
"""
