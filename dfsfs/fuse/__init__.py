"""FUSE: translates the kernel's requests to calls of the vfs, and errors to errno."""
