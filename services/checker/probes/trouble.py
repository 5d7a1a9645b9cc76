"""What the operating system says when something cannot be done, in our words: about the service, or about this machine."""

import errno
import os

OS_WORDS = {
    errno.ECONNREFUSED: "connection refused",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection reset",
    errno.EHOSTUNREACH: "no route to the host",
    errno.ENETUNREACH: "network unreachable",
    errno.ETIMEDOUT: "no answer from the host",
}
"""What is wrong with the service, or on the way to it."""

OWN_TROUBLE = {
    errno.EMFILE: "this checker has no file descriptor left",
    errno.ENFILE: "this checker's machine has no file descriptor left",
    errno.ENOBUFS: "this checker's machine has no network buffer left",
    errno.ENOMEM: "this checker has no memory left",
    errno.EADDRNOTAVAIL: "this checker has no free port or no address left to connect from",
}
"""What is wrong here: nothing was learnt of the service."""


def shortage() -> int:
    """Return the number of the error that opening two descriptors meets right now, or 0.

    For failures that come without one: libcurl and the resolver open descriptors of their own and do not say when they cannot.
    Two, because curl makes a copy of each socket.
    """
    try:
        for descriptor in os.pipe():
            os.close(descriptor)
    except OSError as error:
        return error.errno or 0
    return 0
