"""Everyday use through real mounts: the commands of `dfsfs`, fstab, systemd, packages, and what the docs say."""
