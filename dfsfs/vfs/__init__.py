"""The file system as POSIX sees it: inodes, names, attributes and open files. Knows neither FUSE nor SMB messages."""
