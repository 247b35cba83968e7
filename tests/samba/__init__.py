"""dfsfs.smb against real Samba servers: connection, tree, file and pool, each in a file of its own."""
