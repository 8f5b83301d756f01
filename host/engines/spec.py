"""How a user names an engine, as plain data that can travel to another process or machine."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["EngineSpec"]


@dataclass(frozen=True)
class EngineSpec:
    """Which engine to start, and how.

    Attributes:
        kind: "embedded", "comfyui" (started by us) or "http" (already runs).
        address: The ComfyUI's folder for "comfyui", "http://HOST:PORT" for "http", else "".
        python: The interpreter of "comfyui"; "" to find it as the tests do.
        arguments: Further command-line arguments of "comfyui", such as "--cpu".
        packs: Folders of the node packs that "embedded" loads and "comfyui" links in; () for this project's.
        input_directory: Where this engine's LoadImage reads, if it is on this machine; "" for the default.
        threads: Threads of the processor that one job may use, the same for every worker, so that results do not
            depend on the number of workers.
        exact: Switch off whatever lets equal inputs give different bits (TF32, cuDNN's benchmark mode).
    """

    kind: str = "embedded"
    address: str = ""
    python: str = ""
    arguments: tuple[str, ...] = ()
    packs: tuple[str, ...] = ()
    input_directory: str = ""
    threads: int = 1
    exact: bool = False
