"""Signed digits of a number, counted by hand: what the package's arithmetic on arrays must agree with."""

from __future__ import annotations


def recoded(number: int) -> int:
    """Digits of the non-adjacent form, one by one."""
    number, digits = abs(number), 0
    while number:
        if number & 1:
            number -= 2 - (number & 3)
            digits += 1
        number >>= 1
    return digits
