"""Whether the workers of a sweep make the same pictures: each runs job 0 when it joins, and the digests are compared.

Workers on other machines may have another GPU, other versions or other weights under the same name, and nothing else
would tell. Worker processes on one machine need no such test.
"""

from __future__ import annotations

import threading
from typing import Any

from host.engines.contract import Engine, EngineError
from host.error_format import shorten, show
from host.strict_json import dumps

__all__ = ["Canary"]

_MAX_ENVIRONMENT = 1500  # characters, in a message


class Canary:
    """Compares the workers' results of job 0 with the first one. Safe to use from any thread.

    Args:
        exact: Whether a worker that differs is refused, rather than only reported.
    """

    def __init__(self, exact: bool) -> None:
        self.exact = exact
        self._lock = threading.Lock()
        self._digest: str | None = None
        self._worker = ""
        self._environment: dict[str, Any] | None = None

    def expect(self, digest: str, worker: str) -> None:
        """Compare with a result of an earlier run of the sweep.

        Args:
            digest: Its digest.
            worker: The worker that made it.
        """
        with self._lock:
            self._digest, self._worker, self._environment = digest, f"{worker} of an earlier run", None

    def compare(self, engine: Engine, digest: str) -> str | None:
        """Compare a worker's result with the first one, or take it as the first.

        Args:
            engine: The worker; it is asked for its environment.
            digest: The digest of its job 0.

        Returns:
            None if they are equal, else a sentence with what differs between the workers.

        Raises:
            EngineError: They differ and `exact` holds; the message is that sentence.
            EngineLost: The worker died.
        """
        environment = engine.environment()
        with self._lock:
            if self._digest is None:
                self._digest, self._worker, self._environment = digest, engine.name, environment
            if digest == self._digest:
                return None
            verdict = "is refused (--exact)" if self.exact else "takes part all the same; --exact would refuse it"
            text = (
                f"{engine.name} makes other pictures than {self._worker}: job 0 has digest {digest[:16]} instead of"
                f" {self._digest[:16]}; it {verdict}. {_differences(self._environment, environment)}"
            )
        if self.exact:
            raise EngineError(text)
        return text


def _differences(first: dict[str, Any] | None, other: dict[str, Any]) -> str:
    """Say where two environments differ."""
    if first is None:
        return f"It has {_text(other)}"
    lines = [
        f"{shorten(str(key), 80)}: {_short(other.get(key))} instead of {_short(first.get(key))}"
        for key in sorted({*first, *other}, key=str)
        if first.get(key) != other.get(key)
    ]
    if not lines:
        return f"Both have {_text(other)}"
    return shorten("They differ in " + "; ".join(lines), _MAX_ENVIRONMENT)


def _text(environment: dict[str, Any]) -> str:
    return shorten(dumps(environment), _MAX_ENVIRONMENT)


def _short(value: Any) -> str:
    return show(value, 200)
