"""What does the kernel half cost who connects, elsewhere and to a protected address, program by
program?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.kernel import cost
from tests.kernel.conftest import interceptor

from gpa.agent.pins import Pins

if TYPE_CHECKING:
    from tests.kernel.conftest import Interceptor

__all__ = ["interceptor"]


@pytest.mark.parametrize("who", ["bystander", "protected"])
def test_run_time_by_the_kernels_count(
    interceptor: Interceptor, capsys: pytest.CaptureFixture[str], who: str
) -> None:
    code = cost.BYSTANDER if who == "bystander" else cost.PROTECTED
    costs = cost.of_connections(interceptor, code, batches=30, connections=200)
    with capsys.disabled():
        print(f"\n\n{who:14} calls  ns a call  ns a connection")
        for hook, one in sorted(costs.items()):
            each = one.nanoseconds / one.calls
            print(f"{hook:14} {one.calls:5.1f} {each:10.0f} {one.nanoseconds:16.0f}")
        print(f"{'in all':31} {cost.total(costs):16.0f}")


def test_counts(interceptor: Interceptor, capsys: pytest.CaptureFixture[str]) -> None:
    leaf = interceptor.lab.attach_point / "service" / "gpa.agent"
    with cost.Programs(interceptor.lab.attach_point, leaf) as programs, capsys.disabled():
        print("\n\nverifier instructions", programs.instructions())
        print("bytes of maps", cost.map_bytes(Pins(interceptor.lab.pins / "gpa").maps))
