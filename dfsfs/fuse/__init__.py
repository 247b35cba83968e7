"""The kernel's side: requests from FUSE translated to the vfs, and errors to errno."""
