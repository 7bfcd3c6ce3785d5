# cffi gives `ffi` and `lib`; gpa.agent.libbpf states the types of what it uses.
from typing import Any

ffi: Any
lib: Any
