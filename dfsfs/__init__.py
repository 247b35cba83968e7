"""dfsfs mounts a Microsoft DFS namespace on Linux.

The layers, each of which imports only from those below it: `cli` (commands), `fuse` (the kernel's side),
`vfs` (files and inodes), `namespace` (links, targets, failover), and at the bottom `smb` (SMB2 and SMB3)
beside `dfsc` (referrals).
"""

__version__ = "0.1.0"
