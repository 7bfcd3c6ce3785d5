"""The host side: IMDS, WireServer and HostGAPlugin with their secure channel, emulated.

The independent judge of the agent: it verifies every signature with code of its own and shares none
with what it judges, so an error of reading the protocol shows as a refusal instead of cancelling
out.

`scenario` says how the host is to behave; `channel`, `judge` and `replay` are the protocol;
`imds`, `wireserver` and `hostga` answer; `faults` spoil answers on demand; `records` tells what
arrived; `connection`, `control` and `server` are the only ones to do I/O. docs/emulator.md is the
manual.
"""
