"""Names and inodes: what the kernel has looked up, what is known of it, and where it is on a server."""
