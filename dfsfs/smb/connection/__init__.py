"""Connections: one TCP connection to one server, from its negotiation to its end (MS-SMB2 3.2.4, 3.2.5)."""
