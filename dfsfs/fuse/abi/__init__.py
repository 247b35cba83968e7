"""The kernel's side of FUSE: what linux/fuse.h defines, read and written as values. Pure, without a device.

    constants      opcodes, flags, notification codes
    requests       a request's bytes -> frozen values, or a MalformedRequest
    replies        values -> a reply's bytes
    negotiation    FUSE_INIT: which version and flags both sides use
    notifications  messages that nobody has asked for

Structures have the names of linux/fuse.h, in capitals; the minor version of 7.x in which a part came is said with it.
Numbers are in the byte order of the computer.
"""
