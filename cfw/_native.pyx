# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled part of the core: what every frame passes and no other code needs to see."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE


def jpeg_size(bytes data not None):
    """What `cfw.jpeg.probe` returns for these bytes; None where it would raise NotAJpeg."""
    cdef const unsigned char* at_start = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t last = size
    cdef Py_ssize_t end = size - 2
    cdef Py_ssize_t at = 2
    cdef Py_ssize_t length
    cdef int marker, width, height
    while last > 0 and at_start[last - 1] in (0x00, 0xFF, 0x0D, 0x0A, 0x20):
        last -= 1
    if last < 4 or at_start[last - 2] != 0xFF or at_start[last - 1] != 0xD9:
        return None
    if at_start[0] != 0xFF or at_start[1] != 0xD8:
        return None
    # No segment has less than a marker and a length, so none begins behind this. It keeps
    # what is read here within the bytes, and so does `length` below.
    while at + 4 <= end:
        if at_start[at] != 0xFF:
            return None
        marker = at_start[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker == 0x01 or 0xD0 <= marker <= 0xD7:
            at += 2
            continue
        length = (at_start[at + 2] << 8) | at_start[at + 3]
        if length < 2 or at + 2 + length > end:
            return None
        if 0xC0 <= marker <= 0xCF and marker != 0xC4 and marker != 0xC8 and marker != 0xCC:
            if length < 11 or length != 8 + 3 * at_start[at + 9]:
                return None
            height = (at_start[at + 5] << 8) | at_start[at + 6]
            width = (at_start[at + 7] << 8) | at_start[at + 8]
            return (width, height) if width and height else None
        if marker == 0xDA:
            return None
        at += 2 + length
    return None
