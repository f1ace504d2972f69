"""Function names that fit a table: demangled, without template and parameter lists, at most 60 characters."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache

MAX_LENGTH = 60
_TAIL = 16
"""Characters kept from the end of a name that is cut: tile sizes and layouts of GEMM kernels stand there."""

_FRAME_PATH = re.compile(r"^.*/(?=[^/]+\.py)")


class NameIndex:
    """Short names that stay unique, and the full ones behind them.

    Give it all names of a report at once: names that would be shortened alike are told apart by their index.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.number: dict[str, int] = {}
        self._short: dict[str, str] = {}
        taken: dict[str, str] = {}
        for full in dict.fromkeys(names):
            short = shorten(full)
            if short != full or short in taken:
                self.number[full] = len(self.number) + 1
            if short in taken:
                suffix = f"…{self.number[full]}"
                short = short[: MAX_LENGTH - len(suffix)] + suffix
            taken[short] = full
            self._short[full] = short

    def short(self, full: str) -> str:
        """Return the short form of a name that the index was made with."""
        return self._short[full]


@lru_cache(maxsize=65536)
def shorten(name: str) -> str:
    """Return the demangled name without return type, parameters and deep template arguments, cut to `MAX_LENGTH`."""
    text = re.sub(r"\s+", " ", _demangle(name)).strip()
    text = _FRAME_PATH.sub("", text)
    text = _without_lists(text)
    return text if len(text) <= MAX_LENGTH else f"{text[: MAX_LENGTH - 1 - _TAIL]}…{text[-_TAIL:]}"


def _demangle(name: str) -> str:
    """Return the C++ name behind a mangled one; what the demangler cannot read keeps at least its qualified name."""
    if not name.startswith(("_Z", "__Z")):
        return name
    from itanium_demangler import parse  # noqa: PLC0415  (rarely needed)

    mangled = name.removeprefix("_") if name.startswith("__Z") else name
    for unknown, (stand_in, _) in _NEW_TYPES.items():
        mangled = mangled.replace(unknown, stand_in)
    try:
        parsed = str(parse(mangled) or "")
    except Exception:  # it raises whatever its tables lack
        parsed = ""
    for stand_in, meaning in _NEW_TYPES.values():
        parsed = parsed.replace(_STAND_IN_NAMES[stand_in], meaning)
    return parsed or _qualified_name(mangled) or name


_NEW_TYPES = {"DF16b": ("g", "bf16"), "DF16_": ("e", "fp16")}
"""GPU kernels' number types that the demangler does not know, and rare built-in types that stand in for them."""

_STAND_IN_NAMES = {"g": "__float128", "e": "long double"}


def _qualified_name(mangled: str) -> str:
    """Read the length-prefixed parts at the start of a mangled name."""
    rest = re.sub(r"^_Z(?:N[rVK]*|L)?", "", mangled)
    parts = []
    while match := re.match(r"\d+", rest):
        end = match.end() + int(match.group())
        parts.append(rest[match.end() : end])
        rest = rest[end:]
    return "::".join(parts)


_CPP_NAME = re.compile(r"^(?:void )?(?P<name>[A-Za-z_~][\w:~]*)(?P<rest>[<(].*[>)](?: const)?(?: \[[^\]]*\])?)$")


def _without_lists(name: str) -> str:
    """Drop the parameters of a C++ function and all but the heads of its template arguments.

    >>> _without_lists("void at::native::f<128, std::array<char*, 2ul>, 4>(int, float*)")
    'native::f<128, array…, 4>'
    >>> _without_lists("Memcpy HtoD (Pinned -> Device)")
    'Memcpy HtoD (Pinned -> Device)'
    """
    match = _CPP_NAME.match(name.replace("(anonymous namespace)::", ""))
    if match is None:
        return name
    qualified = "::".join(match["name"].split("::")[-2:])
    if match["rest"][0] == "(":
        return qualified
    arguments = ", ".join(_head(argument) for argument in _template_arguments(match["rest"]))
    return f"{qualified}<{arguments}>"


def _template_arguments(text: str) -> list[str]:
    """Split ``<a, b<c, d>>…`` at the commas of its first level."""
    arguments, depth, start = [], 0, 1
    for position, char in enumerate(text):
        if char in "<([{":
            depth += 1
        elif char in ">)]}" and text[position - 1] != "-":
            depth -= 1
        if (char == "," and depth == 1) or depth == 0:
            arguments.append(text[start:position].strip())
            start = position + 1
        if depth == 0:
            break
    return arguments


def _head(argument: str) -> str:
    """Return the last part of an argument's own name, with … where something hangs on it; a cast number as the number."""
    argument = re.sub(r"^\((?:int|bool|unsigned int|long|unsigned long)\)(?=[\w-]+$)", "", argument)
    parts = re.split(r"[<({]", argument, maxsplit=1)
    head = parts[0].rstrip(": ").split("::")[-1]
    return head if len(parts) == 1 else f"{head}…"
