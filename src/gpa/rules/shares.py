"""A bounded memory in which nobody can push out what belongs to others."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final, Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")

MOST: Final = 4096
"""Entries in all; some 200 bytes each."""


class Shares(Generic[K, V]):
    """Values by key, each kept for a user. When there are too many, the user who has the most loses
    the oldest. For any thread."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._of: dict[int, OrderedDict[K, V]] = {}
        self._count = 0
        self._lock = threading.Lock()

    def get(self, uid: int, key: K) -> V | None:
        """What is kept for that user."""
        with self._lock:
            mine = self._of.get(uid)
            return None if mine is None else mine.get(key)

    def put(self, uid: int, key: K, value: V) -> None:
        """Keep it."""
        with self._lock:
            mine = self._of.setdefault(uid, OrderedDict())
            self._count += key not in mine
            mine[key] = value
            if self._count <= self._most:
                return
            whose = max(self._of, key=lambda one: len(self._of[one]))
            self._of[whose].popitem(last=False)
            self._count -= 1
            if not self._of[whose]:
                del self._of[whose]

    def all(self) -> dict[K, V]:
        """Everything, whoever it was kept for."""
        with self._lock:
            return {key: value for mine in self._of.values() for key, value in mine.items()}

    def clear(self) -> None:
        """Forget everything."""
        with self._lock:
            self._of.clear()
            self._count = 0
