# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What `_pure` does, compiled. What each part is for is said there.

A payload is read once: it is unmasked from where it was received into the object that the
caller gets.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from cpython.unicode cimport PyUnicode_1BYTE_DATA, PyUnicode_DecodeUTF8
from libc.stdint cimport uint64_t
from libc.string cimport memcpy

cdef extern from "Python.h":
    str PyUnicode_New(Py_ssize_t size, Py_UCS4 largest)
    # Of an object that is still being filled, and may be resized: nobody else has it.
    PyObject *new_bytes "PyBytes_FromStringAndSize"(
        const char *data, Py_ssize_t size
    ) except NULL
    int resize_bytes "_PyBytes_Resize"(PyObject **made, Py_ssize_t size) except -1
    unsigned char *bytes_of "(unsigned char *)PyBytes_AS_STRING"(PyObject *made)

ctypedef const unsigned char[::1] Bytes


def unmask(Bytes data not None, Bytes mask not None):
    cdef Py_ssize_t size = data.shape[0]
    made = PyBytes_FromStringAndSize(NULL, size)
    if size:
        _unmask(<unsigned char *> PyBytes_AS_STRING(made), &data[0], size, _turned(&mask[0], 0))
    return made


def take_messages(
    Bytes data not None,
    Py_ssize_t pos,
    list messages not None,
    Py_ssize_t most,
    Py_ssize_t max_text_bytes,
    Py_ssize_t max_binary_bytes,
):
    cdef Py_ssize_t size = data.shape[0]
    cdef Py_ssize_t head_size
    cdef uint64_t length, mask
    cdef bint is_text
    cdef const unsigned char *head
    cdef const unsigned char *payload
    while most and size - pos >= 6:
        most -= 1
        head = &data[pos]
        is_text = head[0] == 0x81
        if not (is_text or head[0] == 0x82) or head[1] < 0x80:
            break
        length = head[1] - 0x80
        head_size = 6
        if length == 126:
            head_size = 8
            length = head[2] << 8 | head[3]
            if length < 126:
                break
        elif length == 127:
            head_size = 14
            if size - pos < head_size:
                break
            length = _length_64(head + 2)
            if length <= 0xFFFF:
                break
        # Unsigned, so that no length that a peer may write comes out small.
        if size - pos < head_size or length > <uint64_t> (size - pos - head_size):
            break
        if length > <uint64_t> (max_text_bytes if is_text else max_binary_bytes):
            break
        payload = head + head_size
        mask = _turned(payload - 4, 0)
        if is_text:
            try:
                message = _text(payload, length, mask)
            except UnicodeDecodeError:
                break
        else:
            message = PyBytes_FromStringAndSize(NULL, length)
            _unmask(<unsigned char *> PyBytes_AS_STRING(message), payload, length, mask)
        messages.append(message)
        pos += head_size + length
    return pos


cdef class Payload:
    # NULL between messages; else `_size` of its `_room` bytes are filled.
    cdef PyObject *_data
    cdef Py_ssize_t _room
    cdef Py_ssize_t _size
    cdef Py_ssize_t _largest
    # Of the current frame: its mask, and how much of it has come.
    cdef unsigned char _mask[4]
    cdef Py_ssize_t _taken
    cdef readonly Py_ssize_t missing

    def __dealloc__(self):
        Py_XDECREF(self._data)

    def __sizeof__(self):
        return object.__sizeof__(self) + self._room

    def expect(self, Py_ssize_t length, Bytes mask not None):
        memcpy(self._mask, &mask[0], 4)
        self._taken = 0
        self.missing = length

    def add(self, Bytes data not None, Py_ssize_t pos):
        cdef Py_ssize_t size = min(self.missing, data.shape[0] - pos)
        if size <= 0:
            return pos
        self._make_room(self._size + size)
        _unmask(
            bytes_of(self._data) + self._size,
            &data[pos],
            size,
            _turned(self._mask, self._taken),
        )
        self._size += size
        self._taken += size
        self.missing -= size
        return pos + size

    def tail(self, Py_ssize_t size):
        size = min(size, self._size)
        if size <= 0:
            return b""
        cdef char *end = <char *> bytes_of(self._data) + self._size
        return PyBytes_FromStringAndSize(end - size, size)

    def take(self):
        if not self._size:
            return b""
        if self._size < self._room:
            resize_bytes(&self._data, self._size)
        made = <bytes> self._data
        Py_XDECREF(self._data)
        self._data = NULL
        self._largest = max(self._largest, self._size)
        self._room = self._size = 0
        return made

    cdef int _make_room(self, Py_ssize_t needed) except -1:
        if needed <= self._room:
            return 0
        # The frames of a camera are of like size. What a header announces is only a bound.
        room = max(needed + needed // 8, self._largest + self._largest // 4)
        room = min(room, self._size + self.missing)
        if self._data is NULL:
            self._data = new_bytes(NULL, room)
        else:
            size, self._room, self._size = self._size, 0, 0  # if it fails, the bytes are gone
            resize_bytes(&self._data, room)
            self._size = size
        self._room = room
        return 0


cdef str _text(const unsigned char *data, Py_ssize_t size, uint64_t mask):
    """The text of a payload; raises UnicodeDecodeError."""
    # Unmasked to where an ASCII string has its characters: mostly that is all there is to do.
    text = PyUnicode_New(size, 127)
    if size and _unmask(<unsigned char *> PyUnicode_1BYTE_DATA(text), data, size, mask):
        return PyUnicode_DecodeUTF8(<char *> PyUnicode_1BYTE_DATA(text), size, NULL)
    return text


cdef uint64_t _unmask(
    unsigned char *into, const unsigned char *data, Py_ssize_t size, uint64_t mask
) noexcept nogil:
    """Unmask `size` bytes; not 0 if not all of the result is ASCII."""
    cdef Py_ssize_t at
    cdef uint64_t word, seen = 0
    # Eight at a time, by copies that need no alignment; a compiler makes it sixteen or more.
    for at in range(0, size - 7, 8):
        memcpy(&word, data + at, 8)
        word ^= mask
        seen |= word
        memcpy(into + at, &word, 8)
    for at in range(size & ~7, size):
        into[at] = data[at] ^ (<unsigned char *> &mask)[at & 7]
        seen |= into[at]
    return seen & <uint64_t> 0x8080808080808080


cdef uint64_t _turned(const unsigned char *mask, Py_ssize_t taken) noexcept nogil:
    """A mask, twice, as it meets a payload of which so many bytes were taken."""
    cdef unsigned char octets[8]
    cdef uint64_t word
    cdef int i
    for i in range(8):
        octets[i] = mask[(taken + i) & 3]
    memcpy(&word, octets, 8)
    return word


cdef uint64_t _length_64(const unsigned char *data) noexcept nogil:
    cdef uint64_t length = 0
    cdef int i
    for i in range(8):
        length = length << 8 | data[i]
    return length
