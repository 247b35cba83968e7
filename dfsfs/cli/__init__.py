"""The commands mount.dfsfs and dfsfs."""
