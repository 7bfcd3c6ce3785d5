"""A figure of a debug build says nothing: refuse to take one."""

import pytest


@pytest.fixture(scope="session", autouse=True)
def release_build() -> None:
    native = pytest.importorskip("gpa._native", reason="the native library is not built")
    assert native.PROFILE == "release", "build with `make build`"
