"""The engine that is a ComfyUI, or this project's own server, which already runs.

Nothing is started and nothing listens: the user names the server's address, and it may be on another machine. Other
clients may use the server at the same time; their prompts wait in the same queue.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host.engines.contract import Emit, EngineError, Job, JobResult
from host.engines.spec import EngineSpec

if TYPE_CHECKING:
    from host.engines.remote.client import Client

__all__ = ["HttpEngine", "connect"]


class HttpEngine:
    """Runs jobs on a server that runs already; see `contract.Engine` for the methods.

    Args:
        spec: Its address; the rest plays no role here.
        folder: Not used: the server's files are its own.
        name: What the user calls the engine.

    Raises:
        EngineError: Nothing answers at the address, or something else than a ComfyUI.
    """

    def __init__(self, spec: EngineSpec, folder: Path, name: str) -> None:
        self.name = name
        client = connect(spec.address)
        from host.engines.remote.server import RemoteServer

        self._server = RemoteServer(client)
        try:
            self._server.check()
        except BaseException:
            self._server.close()
            raise

    def environment(self) -> dict[str, Any]:
        """Return what pictures are made with, as far as the server tells."""
        self._server.wait_until_back()
        return self._server.environment()

    def object_info(self) -> dict[str, dict[str, Any]]:
        """Return the server's node classes."""
        self._server.wait_until_back()
        return self._server.object_info()

    def put_inputs(self, files: Mapping[str, bytes]) -> None:
        """Upload files into the server's input folder, where files of the same names are replaced."""
        self._server.wait_until_back()
        self._server.put_inputs(files)

    def run(self, job: Job, emit: Emit) -> JobResult:
        """Run a job, and block until it ended."""
        self._server.wait_until_back()
        return self._server.run(job, emit)

    def interrupt(self) -> None:
        """Stop the running job, if there is one. Other clients' jobs go on."""
        self._server.interrupt()

    def close(self) -> None:
        """Take a job that may still run from the server, and disconnect. The server goes on."""
        self._server.close()


def connect(address: str) -> Client:
    """Return a client of a server, without asking it anything yet.

    Raises:
        EngineError: The address is none, or aiohttp is not installed, which is needed here only.
    """
    try:
        from host.engines.remote.client import Client, server_address
    except ModuleNotFoundError as error:
        if error.name != "aiohttp":
            raise
        raise EngineError("engines behind HTTP need aiohttp, which is not installed: pip install aiohttp") from error
    return Client(server_address(address))
