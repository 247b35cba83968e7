"""What POSIX asks of each call: on a mount and on a local file system, which is the oracle."""
