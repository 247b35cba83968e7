"""A DFS namespace of real Samba servers on this machine, and the tests that use it. Needs root."""
