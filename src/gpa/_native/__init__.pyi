from typing import Final

__version__: Final[str]
PROFILE: Final[str]

def bpf_object() -> bytes: ...
