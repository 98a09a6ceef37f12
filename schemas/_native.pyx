# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Reads the text of one message straight into its class: what arrives for every frame.

The reader takes what is plainly right and nothing else. Its answer to all the rest is None;
`_codec.py` then goes the long way, which decides and explains. So it may refuse whatever is
rare (names with escapes, exponents, numbers beyond 18 digits, years outside 1700 to 2199),
and must never take what the long way refuses, or read it differently.

The rules are those of the fields. A text is shown to the rule of its field once and is
remembered when it was right, for a rig writes the same few texts into every message. What is
new in every message is checked here, by the numbers that its rule has.

All scans rest on one fact: the UTF-8 of a str ends with a NUL, and a NUL is refused wherever
it stands. A scan looks at no byte before it has found the one in front of it to be right.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport Py_TYPE, PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcmp, memcpy

from types import MemberDescriptorType

import attrs
import orjson

from schemas._rules import Hex, Instant, Integer, OneOf, OrNull, Pattern, Text
from schemas._time import Timestamp

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    str PyUnicode_DecodeASCII(const char *at, Py_ssize_t size, const char *errors)

#: Where a scan is in the text; NULL says that something there is not plainly right.
ctypedef const unsigned char *Place

cdef enum Kind:
    TEXT
    HEX
    INTEGER
    INSTANT
    FORBIDDEN

cdef enum:
    #: Texts that a reader remembers, and how long one may be, in bytes with its quotes. That
    #: is 1 MB at the very most, if every text is of the kind that takes the most memory.
    KNOWN_TEXTS = 2048
    KNOWN_BYTES = 66
    #: Names that are ignored in one message; for many the long way is the shorter one.
    MOST_UNKNOWN = 16

cdef tuple _NO_ARGUMENTS = ()
cdef object _loads = orjson.loads
cdef object _NotJson = orjson.JSONDecodeError
cdef object _Timestamp = Timestamp
cdef object _timestamp_text = Timestamp.text
cdef object _timestamp_ns = Timestamp.ns


def make_reader(cls, *, required=frozenset(), forbidden=frozenset()):
    """Make a function that reads a `cls` from JSON text.

    Args:
        cls: a frozen class with slots whose fields have a `Rule` each.
        required: names that the object must have although the class has a default.
        forbidden: names that it must not have, unless they are null.

    Returns:
        A function of the text. None from it says that this is no text, or not one that is
        right, but not why.
    """
    return _Reader(cls, required, forbidden).read


# --- JSON -----------------------------------------------------------------------------------


cdef inline Place _after_space(Place at) noexcept:
    while at[0] == c" " or at[0] == c"\n" or at[0] == c"\r" or at[0] == c"\t":
        at += 1
    return at


cdef inline Place _closing_quote(Place at, bint *has_escapes) noexcept:
    """Where the string ends whose inside begins here. What its escapes say is not checked."""
    while at[0] != c'"':
        if at[0] == c"\\":
            has_escapes[0] = True
            at += 1
        if at[0] < 0x20:
            return NULL
        at += 1
    return at


cdef inline bint _is_digit(unsigned char byte) noexcept:
    return c"0" <= byte <= c"9"


cdef inline Place _after_digits(Place at, int most, int64_t *value) noexcept:
    """Behind 1 to `most` digits. The caller stumbles over one that is too many."""
    cdef Place first = at
    value[0] = 0
    while _is_digit(at[0]) and at - first < most:
        value[0] = value[0] * 10 + (at[0] - c"0")
        at += 1
    if at == first:
        return NULL
    return at


cdef inline Place _after_integer(Place at, int64_t *value) noexcept:
    """Behind an integer of at most 18 digits, which fits for certain."""
    cdef bint is_negative = at[0] == c"-"
    cdef Place first = at + is_negative
    at = _after_digits(first, 18, value)
    if at is NULL or (first[0] == c"0" and at - first > 1):
        return NULL
    if is_negative:
        value[0] = -value[0]
    return at


cdef inline bytes _raw(Place first, Place end):
    return PyBytes_FromStringAndSize(<const char *>first, end - first)


cdef Place _after_unknown(Place at) except? NULL:
    """Behind the value of a field that is ignored, which has to be JSON all the same."""
    cdef Place first = at
    cdef int depth = 0
    cdef bint has_escapes
    while depth > 0 or (at[0] != c"," and at[0] != c"}"):
        if at[0] == c'"':
            at = _closing_quote(at + 1, &has_escapes)
            if at is NULL:
                return NULL
        elif at[0] == c"{" or at[0] == c"[":
            depth += 1
        elif at[0] == c"}" or at[0] == c"]":
            depth -= 1
        # How deep is too deep the decoder decides, which has to see the whole text for it.
        if at[0] == 0 or not 0 <= depth <= 100:
            return NULL
        at += 1
    try:
        _loads(_raw(first, at))
    except _NotJson:
        return NULL
    return at


# --- texts of one shape, and instants -------------------------------------------------------


cdef inline Place _after_shape(Place at, const char *shape) noexcept:
    """Behind a text with a hexadecimal digit for each `x` and a decimal one for each `0`."""
    while shape[0]:
        if shape[0] == c"x":
            if not (_is_digit(at[0]) or c"a" <= (at[0] | 0x20) <= c"f"):
                return NULL
        elif shape[0] == c"0":
            if not _is_digit(at[0]):
                return NULL
        elif at[0] != shape[0]:
            return NULL
        at += 1
        shape += 1
    return at


cdef inline int _two_digits(Place at) noexcept:
    return (at[0] - c"0") * 10 + (at[1] - c"0")


cdef inline int64_t _days(int year, int month) noexcept:
    """Days from 1970-01-01 to the first of a month. The 13th is the January behind a year."""
    if month < 3:  # a year is counted from March here, so that a leap day is its last
        year -= 1
        month += 12
    cdef int64_t leap_days = year // 4 - year // 100 + year // 400
    # Each five months from March or August have 153 days.
    return 365 * year + leap_days + (153 * (month - 3) + 2) // 5 - 719_468


cdef Place _after_instant(Place at, int64_t *ns) noexcept:
    """Behind an instant as most rigs write it; `Timestamp.parse` reads the other forms."""
    cdef Place start = at
    cdef Place fraction
    cdef int64_t below_second = 0, cut
    cdef int offset = 0
    at = _after_shape(at, b"0000-00-00T00:00:00")
    if at is NULL:
        return NULL
    cdef int year = _two_digits(start) * 100 + _two_digits(start + 2)
    cdef int month = _two_digits(start + 5), day = _two_digits(start + 8)
    cdef int hour = _two_digits(start + 11), minute = _two_digits(start + 14)
    cdef int second = _two_digits(start + 17)
    # Nanoseconds of these years fit into 64 bits.
    if not (1700 <= year <= 2199 and 1 <= month <= 12):
        return NULL
    cdef int64_t first = _days(year, month), days = _days(year, month + 1) - first
    if not 1 <= day <= days or hour > 23 or minute > 59 or second > 59:
        return NULL
    if at[0] == c"." or at[0] == c",":
        fraction = at + 1
        at = _after_digits(fraction, 9, &below_second)
        if at is NULL:
            return NULL
        for _ in range(9 - (at - fraction)):
            below_second *= 10
        if _is_digit(at[0]):
            at = _after_digits(at, 9, &cut)
    if at[0] == c"Z":
        at += 1
    elif at[0] == c"+" or at[0] == c"-":
        start = at
        at = _after_shape(at + 1, b"00:00")
        if at is NULL or _two_digits(start + 1) > 23 or _two_digits(start + 4) > 59:
            return NULL
        offset = _two_digits(start + 1) * 60 + _two_digits(start + 4)
        if start[0] == c"-":
            offset = -offset
    minute += hour * 60 - offset
    ns[0] = ((first + day - 1) * 86_400 + minute * 60 + second) * 1_000_000_000
    ns[0] += below_second
    return at


# --- objects --------------------------------------------------------------------------------


cdef inline object _new(object cls):
    return (<PyTypeObject *>cls).tp_new(cls, <PyObject *>_NO_ARGUMENTS, NULL)


cdef inline int _set(object made, object slot, object value) except -1:
    # The classes are frozen: what checks have let through goes in by the slot's descriptor.
    Py_TYPE(slot).tp_descr_set(slot, made, value)
    return 0


# --- the reader -----------------------------------------------------------------------------


@cython.final
cdef class _Field:
    """What a reader knows of one name."""

    cdef bytes name
    cdef uint64_t bit  # among the names that a message has had
    cdef Kind kind
    cdef bint may_be_null, may_be_absent
    cdef bytes shape
    cdef int64_t minimum
    cdef object problem, default, slot
    cdef _Field next  # what came behind it in the message before, and will again

    def __init__(self, name, number):
        self.name = name.encode()
        self.bit = 1 << number
        self.kind = FORBIDDEN
        self.next = self

    cdef follow(self, attribute, slot, is_required):
        """Take over the rule of a field of a class, which may be none that is known here."""
        rule = attribute.validator
        self.may_be_null = isinstance(rule, OrNull)
        if self.may_be_null:
            rule = rule.rule
        if isinstance(rule, Instant):
            self.kind = INSTANT
        elif isinstance(rule, Integer):
            self.kind = INTEGER
            self.minimum = -(10**18) if rule.minimum is None else rule.minimum
        elif isinstance(rule, Hex):
            self.kind = HEX
            self.shape = b"-".join([b"x" * count for count in rule.digits])
        elif isinstance(rule, (Text, Pattern, OneOf)):
            self.kind = TEXT
        is_known = self.kind != FORBIDDEN and type(slot) is MemberDescriptorType
        if not is_known or (self.kind == INSTANT) != (attribute.converter is not None):
            raise TypeError(f"a reader cannot fill {attribute.name}")
        self.slot = slot
        self.problem = rule.problem
        self.default = attribute.default
        self.may_be_absent = not is_required and attribute.default is not attrs.NOTHING

    cdef inline bint is_named(self, Place name, Py_ssize_t size) noexcept:
        return (
            PyBytes_GET_SIZE(self.name) == size
            and memcmp(PyBytes_AS_STRING(self.name), name, size) == 0
        )


@cython.no_gc  # in no cycle, and there may be thousands
@cython.final
cdef class _Known:
    """A text that the rule of a field has found right, and the JSON string it came as."""

    cdef _Field field
    cdef bytes raw
    cdef str text


@cython.final
cdef class _Reader:
    cdef object cls
    cdef list fields
    cdef _Field start  # stands in front of the first field of a message
    cdef list known  # each text has one place, and drives out the one that was there

    def __init__(self, cls, required, forbidden):
        self.cls = cls
        self.known = [_Known()] * KNOWN_TEXTS
        self.start = _Field("", 0)
        self.fields = []
        cdef _Field field
        for attribute in attrs.fields(cls):
            field = _Field(attribute.name, len(self.fields))
            field.follow(attribute, getattr(cls, attribute.name), attribute.name in required)
            self.fields.append(field)
        for name in forbidden:
            self.fields.append(_Field(name, len(self.fields)))

    def read(self, text):
        """The message that the text is, or None if it is not plainly right."""
        cdef Py_ssize_t size
        cdef Place at
        if type(text) is not str:
            return None
        try:
            at = <Place>PyUnicode_AsUTF8AndSize(text, &size)
        except UnicodeEncodeError:  # half of a surrogate pair
            return None
        message = _new(self.cls)
        return message if self._fill(message, at, at + size) else None

    cdef bint _fill(self, object message, Place at, Place end) except -1:
        """Whether the text is a plain JSON object with every field right."""
        cdef uint64_t seen = 0
        cdef _Field field, last = self.start
        cdef Place name
        cdef bint has_escapes = False
        cdef int unknown = 0
        at = _after_space(at)
        if at[0] != c"{":
            return False
        while True:
            at = _after_space(at + 1)
            if at[0] != c'"':
                return False
            name = at + 1
            at = _closing_quote(name, &has_escapes)
            if at is NULL or has_escapes:
                return False
            field = self._find(name, at - name, last.next)
            at = _after_space(at + 1)
            if at[0] != c":":
                return False
            at = _after_space(at + 1)
            if field is None:
                unknown += 1
                if unknown > MOST_UNKNOWN:
                    return False
                at = _after_unknown(at)
            else:
                seen |= field.bit
                last.next = field
                last = field
                if field.kind == FORBIDDEN:
                    at = _after_shape(at, b"null")  # as good as absent
                else:
                    at = self._take(message, field, at)
            if at is NULL:
                return False
            at = _after_space(at)
            if at[0] != c",":
                break
        if at[0] != c"}" or _after_space(at + 1) != end:
            return False
        for field in self.fields:
            if not seen & field.bit and field.kind != FORBIDDEN:
                if not field.may_be_absent:
                    return False
                _set(message, field.slot, field.default)
        return True

    cdef inline _Field _find(self, Place name, Py_ssize_t size, _Field likely):
        cdef _Field field
        if likely.is_named(name, size):
            return likely
        for field in self.fields:
            if field.is_named(name, size):
                return field
        return None

    cdef Place _take(self, object message, _Field field, Place at) except? NULL:
        """Behind the value that begins here, which is then in its slot."""
        cdef Place first = at
        cdef int64_t number = 0
        cdef bint has_escapes = False
        if at[0] == c"n" and field.may_be_null:
            at = _after_shape(at, b"null")
            value = None
        elif field.kind == INTEGER:
            at = _after_integer(at, &number)
            if number < field.minimum:
                return NULL
            value = number
        elif at[0] != c'"':
            return NULL
        elif field.kind == TEXT:
            at = _closing_quote(at + 1, &has_escapes)
            if at is NULL:
                return NULL
            at += 1
            value = self._right_text(field, first, at)
            if value is None:
                return NULL
        else:
            first += 1
            if field.kind == HEX:
                at = _after_shape(first, PyBytes_AS_STRING(field.shape))
            else:
                at = _after_instant(first, &number)
            if at is NULL or at[0] != c'"':
                return NULL
            text = value = PyUnicode_DecodeASCII(<const char *>first, at - first, NULL)
            if field.kind == INSTANT:
                value = _new(_Timestamp)
                _set(value, _timestamp_text, text)
                _set(value, _timestamp_ns, number)
            at += 1
        if at is not NULL:
            _set(message, field.slot, value)
        return at

    cdef _right_text(self, _Field field, Place first, Place end):
        """What a JSON string says, or None if the rule of its field does not allow it."""
        cdef Py_ssize_t size = end - first
        cdef Py_ssize_t place = 0
        cdef _Known known
        if size <= KNOWN_BYTES:
            place = _hash(first, size, field.bit) % KNOWN_TEXTS
            known = <_Known>self.known[place]
            if (
                known.field is field
                and PyBytes_GET_SIZE(known.raw) == size
                and memcmp(PyBytes_AS_STRING(known.raw), first, size) == 0
            ):
                return known.text
        raw = _raw(first, end)
        try:
            text = _loads(raw)
        except _NotJson:
            return None
        if field.problem(text) is not None:
            return None
        if size <= KNOWN_BYTES:
            known = _Known()
            known.field, known.raw, known.text = field, raw, text
            self.known[place] = known
        return text


cdef inline uint64_t _hash(Place at, Py_ssize_t size, uint64_t hash) noexcept:
    # Two texts with one hash cost each other a question to the rule, and nothing else.
    cdef uint64_t eight
    while size > 0:
        eight = 0
        memcpy(&eight, at, min(size, 8))
        hash = (hash ^ eight) * <uint64_t>0x9E3779B97F4A7C15U
        hash ^= hash >> 32
        at += 8
        size -= 8
    return hash
