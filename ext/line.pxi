# Pieces of one line of the audit file, for records.pyx: JSON of printable ASCII within a limit.

from libc.string cimport strlen
from libc.time cimport strftime, time_t, tm


cdef extern from "<time.h>":
    tm *gmtime_r(const time_t *seconds, tm *parts)


# One line in the making: what does not fit, or is not plain ASCII, leaves it not `whole`, and Python writes it.
cdef struct Line:
    char *at
    char *end
    bint whole


cdef inline void put(Line *line, const char *start, size_t size) noexcept:
    if size > <size_t>(line.end - line.at):
        line.whole = False
        return
    memcpy(line.at, start, size)
    line.at += size


cdef inline void put_text(Line *line, const char *start) noexcept:
    put(line, start, strlen(start))


cdef void put_number(Line *line, uint64_t number) noexcept:
    cdef char digits[20]
    cdef int at = 20
    while True:
        at -= 1
        digits[at] = <char>(48 + number % 10)
        number //= 10
        if not number:
            break
    put(line, &digits[at], 20 - at)


cdef void put_plain(Line *line, const char *start, size_t size) noexcept:
    """Printable ASCII as the inside of a JSON string."""
    cdef size_t at
    cdef uint8_t byte
    for at in range(size):
        byte = <uint8_t>start[at]
        if byte < 0x20 or byte > 0x7E:
            line.whole = False
            return
        if byte == c'"' or byte == c"\\":
            put(line, "\\", 1)
        put(line, &start[at], 1)


cdef inline char lower(char byte) noexcept:
    return byte + 32 if c"A" <= byte <= c"Z" else byte


cdef bint same_letters(const char *start, const char *small, size_t size) noexcept:
    cdef size_t at
    for at in range(size):
        if lower(start[at]) != small[at]:
            return False
    return True


cdef bint is_harmless(const char *value, size_t size) noexcept:
    """As _HARMLESS_VALUE and _NESTED_QUERY of gpa/agent/redact.py; `?` and `=` are no harmless bytes anyway."""
    cdef size_t at
    cdef char byte
    if size > 128:
        return False
    for at in range(size):
        byte = lower(value[at])
        if not (c"a" <= byte <= c"z" or c"-" <= byte <= c":" or byte == c"_" or byte == c"~" or byte == c"%"):
            return False
        if byte != c"%" or size - at < 3:
            continue
        if same_letters(&value[at], "%3f", 3):
            return False
        if at >= 3 and same_letters(&value[at - 3], "sig%3d", 6):
            return False
    return True


cdef void put_pair(Line *line, const char *pair, size_t size, tuple harmless) except *:
    cdef const char *mark = <const char *>memchr(pair, c"=", size)
    cdef size_t name_size
    cdef bytes known
    if mark == NULL or mark + 1 == pair + size:
        put_plain(line, pair, size)
        return
    name_size = mark - pair
    for known in harmless:
        if <size_t>len(known) == name_size and same_letters(pair, known, name_size):
            if is_harmless(mark + 1, size - name_size - 1):
                put_plain(line, pair, size)
                return
            break
    put_plain(line, pair, name_size + 1)
    put_text(line, "\\u2026")


cdef void put_target(Line *line, const char *target, size_t size, tuple harmless) except *:
    """As `target` of gpa/agent/redact.py; a test compares."""
    cdef const char *end = <const char *>memchr(target, 0, size)
    cdef const char *at
    cdef const char *stop
    if end == NULL:
        end = target + size
    at = <const char *>memchr(target, c"?", end - target)
    if at == NULL:
        put_plain(line, target, end - target)
        return
    at += 1
    put_plain(line, target, at - target)
    while True:
        stop = <const char *>memchr(at, c"&", end - at)
        if stop == NULL:
            put_pair(line, at, end - at, harmless)
            return
        put_pair(line, at, stop - at, harmless)
        put_text(line, "&")
        at = stop + 1


# The start of a time, kept from row to row: a second has many.
cdef struct Stamp:
    time_t second
    char start[32]
    size_t size


cdef void put_time(Line *line, Stamp *stamp, uint64_t unix_ns) noexcept:
    cdef time_t second = <time_t>(unix_ns // 1000000000)
    cdef int ms = <int>(unix_ns // 1000000 % 1000)
    cdef char rest[5]
    cdef tm parts
    if second != stamp.second or not stamp.size:
        if gmtime_r(&second, &parts) == NULL:
            line.whole = False
            return
        stamp.second = second
        stamp.size = strftime(stamp.start, sizeof(stamp.start), "%Y-%m-%dT%H:%M:%S", &parts)
    rest[0] = c"."
    rest[1] = <char>(48 + ms // 100)
    rest[2] = <char>(48 + ms // 10 % 10)
    rest[3] = <char>(48 + ms % 10)
    rest[4] = c"Z"
    put(line, stamp.start, stamp.size)
    put(line, rest, 5)
