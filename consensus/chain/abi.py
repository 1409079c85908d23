"""Abi: names and Python values of a contract's functions and events <-> bytes of a call.

Paper: none; the contract application binary interface that Solidity and Vyper share.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedalign.core.errors import UnknownNameError


@dataclass(frozen=True)
class Interface:
    """abi: entries as the compiler gives them."""

    abi: tuple[dict[str, Any], ...]

    def call(self, name: str, *values: Any) -> bytes:
        """The data of a call: selector, then the encoded arguments."""
        from eth_abi import encode
        from eth_utils import function_signature_to_4byte_selector

        types = [_type(part) for part in self._entry("function", name)["inputs"]]
        selector = function_signature_to_4byte_selector(f"{name}({','.join(types)})")
        return selector + encode(types, values)

    def construct(self, *values: Any) -> bytes:
        """The encoded arguments of the constructor; they follow the creation code."""
        from eth_abi import encode

        found = [entry for entry in self.abi if entry["type"] == "constructor"]
        return encode([_type(part) for part in found[0]["inputs"]], values) if found else b""

    def result(self, name: str, data: bytes) -> Any:
        """What the function answered: one value, or a tuple of several."""
        from eth_abi import decode

        types = [_type(part) for part in self._entry("function", name)["outputs"]]
        values = decode(types, data)
        return values[0] if len(values) == 1 else values

    def event(self, name: str, topics: tuple[bytes, ...], data: bytes) -> Mapping[str, Any] | None:
        """The fields of a logged event, None where the log is of another event."""
        from eth_abi import decode
        from eth_utils import keccak

        inputs = self._entry("event", name)["inputs"]
        signature = f"{name}({','.join(map(_type, inputs))})"
        if not topics or topics[0] != keccak(text=signature):
            return None
        indexed = [part for part in inputs if part["indexed"]]
        plain = [part for part in inputs if not part["indexed"]]
        values = {
            part["name"]: decode([_type(part)], topic)[0]
            for part, topic in zip(indexed, topics[1:], strict=True)
        }
        decoded = decode([_type(part) for part in plain], data)
        return values | {part["name"]: value for part, value in zip(plain, decoded, strict=True)}

    def struct(self, name: str, argument: str) -> tuple[str, tuple[str, ...]]:
        """(type, field names) of a struct argument of a function."""
        inputs = self._entry("function", name)["inputs"]
        found = {part["name"]: part for part in inputs}
        if argument not in found:
            raise UnknownNameError(f"argument of {name}", argument, found)
        fields = tuple(part["name"] for part in found[argument].get("components", ()))
        return _type(found[argument]), fields

    def _entry(self, kind: str, name: str) -> dict[str, Any]:
        found = {entry["name"]: entry for entry in self.abi if entry["type"] == kind}
        if name not in found:
            raise UnknownNameError(kind, name, found)
        return found[name]


def _type(part: Mapping[str, Any]) -> str:
    kind = part["type"]
    if not kind.startswith("tuple"):
        return kind
    return f"({','.join(map(_type, part['components']))}){kind[len('tuple') :]}"
