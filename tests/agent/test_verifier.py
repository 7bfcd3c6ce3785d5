"""What is told of a refused program."""

from __future__ import annotations

from gpa.agent.verifier import last_words

VERIFIER = """\
libbpf: prog 'gpa_connect4': BPF program load failed: -EINVAL
libbpf: prog 'gpa_connect4': -- BEGIN PROG LOAD LOG --
0: (bf) r6 = r1                       ; R1=ctx() R6=ctx()
313: (85) call bpf_get_current_task#35
program of this type cannot use helper bpf_get_current_task#35
processed 96 insns (limit 1000000) max_states_per_insn 0 total_states 9 peak_states 9 mark_read 0
-- END PROG LOAD LOG --
libbpf: prog 'gpa_connect4': failed to load: -EINVAL
libbpf: failed to load object 'gpa'

"""


def test_the_verifiers_reason_not_its_statistics() -> None:
    reason = "program of this type cannot use helper bpf_get_current_task#35"
    assert last_words(VERIFIER) == f"prog 'gpa_connect4': {reason}"
    # Of a long log only the end was kept.
    assert last_words("".join(VERIFIER.splitlines(True)[3:])) == f"the verifier: {reason}"
    assert last_words("-- END PROG LOAD LOG --") == "the verifier"


def test_else_what_was_said_last() -> None:
    assert last_words("libbpf: a\nlibbpf: b\n\nlibbpf: c\nlibbpf: d\n") == (
        "libbpf: b | libbpf: c | libbpf: d"
    )
    assert last_words("") == ""
