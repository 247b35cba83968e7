"""A FUSE session of our own: /dev/fuse, its requests, and the handlers that answer them.

mounting    mount(2), or fusermount3 for users other than root
dispatcher  one request -> the handler's coroutine -> the reply's bytes
loop        reads requests, runs handlers, and writes replies
"""
