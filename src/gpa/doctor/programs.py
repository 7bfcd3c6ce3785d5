"""Each program, loaded and attached for real, and who else is on the same hooks."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from gpa.agent.pins import OPTIONS
from gpa.doctor.door import Sharing
from gpa.doctor.finding import Finding, failure, ok, warning

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from gpa.doctor.door import Neighbour, Verdict

MOST_CGROUPS: Final = 1024
"""Asked below cgroupRoot: some 0.5 ms each, and what is found there hinders little."""

SHARE: Final = (
    "have its owner attach it with BPF_F_ALLOW_MULTI, or stop it (bpftool cgroup tree shows it)"
)


def judge_programs(verdicts: Mapping[str, Verdict]) -> Iterator[Finding]:
    """A finding for each program, with the kernel's own words where it refused."""
    said = {verdict.load for verdict in verdicts.values()}
    if len(said) == 1 and len(verdicts) > 1 and (words := said.pop()):
        yield _refused("program", f"the kernel refuses every program: {words}")
        return
    if all(verdict.attach is None for verdict in verdicts.values()):
        yield warning(
            "program",
            "all are loaded for real, and none is attached: cgroupRoot is not on cgroup v2",
            "mend cgroup-root first",
        )
        return
    for name, verdict in verdicts.items():
        if verdict.load:
            yield _refused(f"program {name}", f"the kernel refuses it: {verdict.load}")
        elif verdict.attach:
            yield failure(
                f"program {name}",
                f"loaded, but the kernel does not attach it: {verdict.attach}",
                "mend what fails below at neighbours; where nothing does, an exclusive program is"
                " attached above what can be seen from here, or the kernel lacks CONFIG_CGROUP_BPF",
            )
        else:
            done = "loaded" if verdict.attach is None else "loaded and attached"
            yield ok(f"program {name}", f"{done} for real, and taken away again")


def _refused(name: str, words: str) -> Finding:
    return failure(
        name,
        words,
        "mend what fails above (capabilities, namespace, btf, lockdown); where nothing does, this"
        " kernel is too old: Linux 5.10 or newer",
    )


def no_trial(name: str, cgroup_root: Path, error: OSError) -> Finding:
    """The throw-away cgroup could not be made."""
    return failure(
        name,
        f"no cgroup can be made below {cgroup_root}: {error.strerror}",
        "let the agent write there (mount it read-write, own the part of a container), and see"
        " cgroup.max.descendants",
    )


def check_neighbours(
    cgroup_root: Path, above: Iterable[Path], ask: Callable[[Path], Iterable[Neighbour]]
) -> Iterator[Finding]:
    """Who else is attached on the same hooks, and whether both can live.

    Args:
        cgroup_root: where ours are attached.
        above: the cgroups above it, the nearest first.
        ask: what is attached to a cgroup.
    """
    below, all_seen = _below(cgroup_root)
    at_root = list(ask(cgroup_root))
    higher = [neighbour for folder in above for neighbour in ask(folder)]
    lower = [neighbour for folder in below for neighbour in _ask_living(ask, folder)]
    troubles = [_in_the_way(n) for n in at_root if _forbids(n, at_root=True)]
    decided = {n.hook for n in at_root}
    for neighbour in higher:
        if neighbour.hook in decided:
            continue  # the nearest says what may be attached below it
        decided.add(neighbour.hook)
        if _forbids(neighbour, at_root=False):
            troubles.append(_in_the_way(neighbour))
        elif neighbour.sharing is Sharing.OVERRIDE and neighbour.hook not in OPTIONS:
            troubles.append(_overridden(neighbour, cgroup_root))
    # Below, ours runs beside whatever is there; only the agent's own cgroup must be free.
    troubles += [
        _no_start(n) for n in lower if n.sharing is Sharing.EXCLUSIVE and n.hook in OPTIONS
    ]
    yield from troubles
    if not troubles:
        others = [n for n in (*higher, *at_root, *lower) if not n.ours]
        words = _list(others)
        if not all_seen:
            words += f"; of the cgroups below {cgroup_root} only {MOST_CGROUPS} were asked"
        yield ok("neighbours", words)


def _ask_living(ask: Callable[[Path], Iterable[Neighbour]], folder: Path) -> Iterable[Neighbour]:
    try:
        return list(ask(folder))
    except FileNotFoundError:  # it has ended meanwhile
        return ()


def _forbids(neighbour: Neighbour, *, at_root: bool) -> bool:
    """Would the kernel refuse ours because of it (hierarchy_allows_attach in
    kernel/bpf/cgroup.c)."""
    if neighbour.sharing is Sharing.OVERRIDE:
        # Ours for the socket options are attached further down.
        return at_root and neighbour.hook not in OPTIONS
    return neighbour.sharing is Sharing.EXCLUSIVE


def _below(folder: Path) -> tuple[list[Path], bool]:
    """Cgroups below, and whether that is all of them."""
    found: list[Path] = []
    for inner, names, _ in os.walk(folder):
        for name in names:
            if len(found) == MOST_CGROUPS:
                return found, False
            found.append(folder / inner / name)
    return found, True


def _in_the_way(neighbour: Neighbour) -> Finding:
    return failure(
        f"neighbours {neighbour.hook}",
        f"{_who(neighbour)} allows no other program there ({neighbour.sharing.value}): the agent"
        " cannot attach its own",
        SHARE,
    )


def _overridden(neighbour: Neighbour, cgroup_root: Path) -> Finding:
    return warning(
        f"neighbours {neighbour.hook}",
        f"{_who(neighbour)} may be overridden, and will be: below {cgroup_root} it no longer runs"
        " once the agent's program is attached",
        SHARE,
    )


def _no_start(neighbour: Neighbour) -> Finding:
    return warning(
        f"neighbours {neighbour.hook}",
        f"{_who(neighbour)} allows no other program there ({neighbour.sharing.value}): an agent"
        " cannot be started in that cgroup",
        f"start the agent in another cgroup, or {SHARE}",
    )


def _who(neighbour: Neighbour) -> str:
    return f"{', '.join(neighbour.programs)} at {neighbour.folder}"


def _list(others: list[Neighbour]) -> str:
    if not others:
        return "no program of others is on the same hooks"
    return (
        "beside others, who share: "
        + "; ".join(f"{neighbour.hook}: {_who(neighbour)}" for neighbour in others[:16])
        + (f"; and {len(others) - 16} more" if len(others) > 16 else "")
    )
