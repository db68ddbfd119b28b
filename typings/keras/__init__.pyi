# It builds its public modules at run time and ships no types; what a type checker infers from its source is wrong more often than right.
from typing import Any

def __getattr__(name: str) -> Any: ...
