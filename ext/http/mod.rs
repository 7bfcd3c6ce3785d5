//! HTTP/1.1 as a hop must read it: strict, one canonical form, no I/O.
