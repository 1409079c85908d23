"""JSON-RPC: requests in, answers out, and an error object for everything that is wrong.

Source: JSON-RPC 2.0 specification, sections 4 to 6; codes from -32000 down as Ethereum clients use
them (EIP-1474), 3 for a reverted call.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedalign.core.errors import FedalignError

Method = Callable[..., Any]

PARSE, INVALID, UNKNOWN, PARAMS, INTERNAL = -32700, -32600, -32601, -32602, -32603
REFUSED, TOO_MUCH, REVERTED = -32000, -32005, 3
MOST_REQUESTS, MOST_DEPTH = 1000, 32

_TEXT = re.compile(rb'"(?:[^"\\\\]|\\\\.)*"')
_NO_BRACKETS = bytes(set(range(256)) - set(b"[]{}"))


class RpcError(FedalignError):
    """An answer that is an error object. code: as above. data: revert data or None."""

    def __init__(self, code: int, message: str, data: str | None = None):
        super().__init__(message)
        self.code, self.data = code, data


class Endpoint:
    """Methods by name; nothing a caller sends makes `answer` raise.

    most_requests: in one batch, >= 1.
    """

    def __init__(self, methods: Mapping[str, Method], most_requests: int = MOST_REQUESTS):
        self.methods, self._most = dict(methods), most_requests

    def answer(self, body: bytes) -> bytes:
        """The answer to one request or a batch; empty where only notifications came."""
        if _depth(body) > MOST_DEPTH:
            return spelled(failure(None, PARSE, f"JSON is nested deeper than {MOST_DEPTH} here."))
        try:
            request = json.loads(body)
        except (ValueError, RecursionError):
            return spelled(failure(None, PARSE, f"These {len(body)} bytes are no JSON."))
        if not isinstance(request, list):
            answer = self._one(request)
            return b"" if answer is None else spelled(answer)
        if not request or len(request) > self._most:
            reason = f"A batch has 1 .. {self._most} requests, got {len(request)}."
            return spelled(failure(None, INVALID, reason))
        answers = [answer for answer in map(self._one, request) if answer is not None]
        return spelled(answers) if answers else b""

    def _one(self, request: Any) -> dict[str, Any] | None:
        """None for a notification: it has no id and gets no answer."""
        if not isinstance(request, dict) or not isinstance(request.get("method"), str):
            return failure(None, INVALID, "A request is an object with a method and params.")
        name, params = request["method"], request.get("params", [])
        identity = request.get("id")
        if not isinstance(identity, str | int | float | None):
            return failure(None, INVALID, "A request's id is a number, a string or null.")
        try:
            answer = {"jsonrpc": "2.0", "id": identity, "result": self._call(name, params)}
        except RpcError as error:
            answer = failure(identity, error.code, str(error), error.data)
        except FedalignError as error:
            answer = failure(identity, REFUSED, str(error))
        except Exception as error:  # a defect of ours must not end the server
            answer = failure(identity, INTERNAL, f"{name} failed: {type(error).__name__}.")
        return answer if "id" in request else None

    def _call(self, name: str, params: Any) -> Any:
        if name not in self.methods:
            raise RpcError(UNKNOWN, f"There is no method '{name[:80]}' here.")
        if not isinstance(params, list):
            raise RpcError(PARAMS, "Params are a list.")
        try:
            bound = _bind(self.methods[name], params)
        except TypeError as error:
            raise RpcError(PARAMS, f"{name}: {error}.") from error
        return bound()


def _depth(body: bytes) -> int:
    """How deep lists and objects are nested: libraries raise the interpreter's recursion limit, and
    beyond the stack the parser would take the process down."""
    depth = deepest = 0
    for bracket in _TEXT.sub(b"", body).translate(None, _NO_BRACKETS):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _bind(method: Method, params: Sequence[Any]) -> Callable[[], Any]:
    import inspect

    arguments = inspect.signature(method).bind(*params)
    return lambda: method(*arguments.args)


def failure(identity: Any, code: int, message: str, data: str | None = None) -> dict[str, Any]:
    """An error object as an answer."""
    error = {"code": code, "message": message} | ({} if data is None else {"data": data})
    return {"jsonrpc": "2.0", "id": identity, "error": error}


def spelled(answer: Any) -> bytes:
    """An answer as it travels."""
    return json.dumps(answer, separators=(",", ":")).encode()
