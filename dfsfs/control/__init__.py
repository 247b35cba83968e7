"""The control socket of a mount: how the commands of `dfsfs` ask a running mount, and tell it what to do."""
