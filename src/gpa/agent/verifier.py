"""From pages of log to the line that tells why the kernel refused a program."""

from __future__ import annotations


def last_words(text: str) -> str:
    """What the verifier minded, else what libbpf said last, on one line.

    Args:
        text: what libbpf printed, the verifier's log among it.
    """
    lines = [line.strip() for line in text.splitlines()]
    ends = [number for number, line in enumerate(lines) if line.endswith("END PROG LOAD LOG --")]
    if ends:
        # The verifier gives the reason, then its statistics.
        said = [line for line in lines[: ends[-1]] if not line.startswith("processed ")]
        names = [line for line in said if line.startswith("libbpf: prog ")]
        name = names[-1].removeprefix("libbpf: ").partition(":")[0] if names else "the verifier"
        return f"{name}: {said[-1]}" if said else name
    return " | ".join([line for line in lines if line][-3:])
