# cython: language_level=3, boundscheck=False, wraparound=False
"""The compiled part of the core: what every frame passes and no other code needs to see."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE

# As in cfw.jpeg.
cdef enum:
    MAX_TRAILER_BYTES = 4096
    MAX_STEPS = 4096


def jpeg_size(bytes data not None):
    """What `cfw.jpeg.probe` returns for these bytes; None where it would raise NotAJpeg."""
    cdef const unsigned char* at_start = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    cdef Py_ssize_t end = size - 2
    cdef Py_ssize_t at = 2
    cdef Py_ssize_t length
    cdef int marker, width, height
    cdef int steps = MAX_STEPS
    if size < 4 or at_start[0] != 0xFF or at_start[1] != 0xD8:
        return None
    if at_start[end] != 0xFF or at_start[end + 1] != 0xD9:
        end = _eoi(data)
    while True:
        at = _segment(at_start, at, end, &steps)
        if at < 0:
            return None
        marker = at_start[at + 1]
        length = (at_start[at + 2] << 8) | at_start[at + 3]
        if 0xC0 <= marker <= 0xCF and marker != 0xC4 and marker != 0xC8 and marker != 0xCC:
            if length < 11 or length != 8 + 3 * at_start[at + 9]:
                return None
            height = (at_start[at + 5] << 8) | at_start[at + 6]
            width = (at_start[at + 7] << 8) | at_start[at + 8]
            return (width, height) if width and height else None
        if marker == 0xDA:
            return None
        at += 2 + length


cdef inline Py_ssize_t _segment(
    const unsigned char* at_start, Py_ssize_t at, Py_ssize_t end, int* steps
) noexcept:
    """Where the segment is that begins at `at` or behind fill bytes, whole and before `end`.

    -1 if there is none, or no step is left to look for it.
    """
    cdef Py_ssize_t length
    cdef int marker
    # No segment has less than a marker and a length, so none begins behind this. It keeps
    # what is read here within the bytes, and so does `length`.
    while at + 4 <= end and at_start[at] == 0xFF:
        if steps[0] == 0:
            return -1
        steps[0] -= 1
        marker = at_start[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker == 0x01 or 0xD0 <= marker <= 0xD7:
            at += 2
        else:
            length = (at_start[at + 2] << 8) | at_start[at + 3]
            return at if length >= 2 and at + 2 + length <= end else -1
    return -1


cdef Py_ssize_t _eoi(bytes data) except -2:
    """Where the EOI is of a picture that something trails, or -1."""
    cdef const unsigned char* at_start = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t at = PyBytes_GET_SIZE(data) - 2
    cdef Py_ssize_t first = max(<Py_ssize_t>0, at - MAX_TRAILER_BYTES)
    while at >= first:
        if at_start[at] == 0xFF and at_start[at + 1] == 0xD9:
            return at
        at -= 1
    return _phones_eoi(data)


cdef Py_ssize_t _phones_eoi(bytes data) except -2:
    """Where the EOI of a phone's picture is, which a long trailer follows, or -1."""
    cdef const unsigned char* at_start = <const unsigned char*>PyBytes_AS_STRING(data)
    cdef Py_ssize_t end = PyBytes_GET_SIZE(data) - 2
    cdef Py_ssize_t at = 2
    cdef Py_ssize_t behind, eoi
    cdef bint says_so = False
    cdef int marker
    cdef int steps = MAX_STEPS
    while True:
        at = _segment(at_start, at, end, &steps)
        if at < 0:
            return -1
        marker = at_start[at + 1]
        behind = at + 2 + ((at_start[at + 2] << 8) | at_start[at + 3])
        if marker == 0xE1:
            says_so |= data.find(b"http://ns.google.com/photos/1.0/", at + 4, behind) >= 0
        elif marker == 0xE2:
            says_so |= data.startswith(b"MPF\x00", at + 4)
        elif marker == 0xDA:
            eoi = data.find(b"\xff\xd9", behind)
            if eoi < 0 or says_so:
                return eoi
            if data.startswith(b"ftyp", eoi + 6) or data.endswith(b"SEFT"):
                return eoi
            return -1
        at = behind
