"""Attacks meet the same kernel half as tests/kernel."""

from tests.kernel.conftest import interceptor

__all__ = ["interceptor"]
