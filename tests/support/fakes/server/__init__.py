"""An SMB2 server in memory, behind the Transport seam: the client's real bytes come in, real bytes go out.

    volume.py     files, names, handles: what a server does with them, without a message
    leases.py     its leases: when they are granted, and when they are broken
    messages.py   requests as bytes into values, values into the bytes of answers
    requests.py   one request at a time, carried out on the volume
    server.py     connections: compounds, credits, and requests and answers that a test holds and lets go
    client.py     a Connection and a Tree of dfsfs on it, without a handshake

There is no I/O and no clock in any of it but in client.py. Nothing is signed or encrypted.

It does as Samba 4.17 does. tests/samba/battery.py asks this server and real ones the same questions, so a difference
is a mistake in here. What other servers do otherwise are switches of Volume.
"""
