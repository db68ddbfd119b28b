"""Writing TOML; Python's own `tomllib` reads it."""

from __future__ import annotations

import re
from typing import Any


def written(content: dict[str, Any], prefix: str = "") -> str:
    """Dicts, lists of dicts and plain values as TOML."""
    plain = {key: value for key, value in content.items() if not _is_table(value)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in plain.items()]
    parts = ["\n".join(lines) + "\n"] if lines else []
    for key, value in content.items():
        if not _is_table(value):
            continue
        path = f"{prefix}{_key(key)}"
        for table in value if isinstance(value, list) else [value]:
            head = f"[[{path}]]" if isinstance(value, list) else f"[{path}]"
            parts.append(f"{head}\n{written(table, path + '.')}")
    return "\n".join(parts)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) or (isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value))


def _key(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _value(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = "".join(_escape(char) for char in value)
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(key)} = {_value(item)}" for key, item in value.items()) + "}"
    if isinstance(value, float):
        return repr(value)
    return str(value)


def _escape(char: str) -> str:
    if char in '"\\':
        return "\\" + char
    return f"\\u{ord(char):04x}" if ord(char) < 32 or ord(char) == 127 else char
