"""The engine that is a ComfyUI checkout, which is started here and ends with this process.

It listens on a port of this machine alone. One that dies is started again by the next call.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from host.engines.checkout.layout import (
    checkout_of,
    command_line,
    environment_variables,
    interpreter_of,
    packs_of,
    prepare_folder,
)
from host.engines.checkout.model_files import ModelFiles
from host.engines.checkout.process import ComfyUIProcess, free_port
from host.engines.checkout.written_files import WrittenFiles
from host.engines.contract import Emit, EngineError, EngineLost, Job, JobResult
from host.engines.environment import describe_packs, processor_name
from host.engines.http import connect
from host.engines.spec import EngineSpec

if TYPE_CHECKING:
    from host.engines.remote.server import RemoteServer

__all__ = ["ComfyUIEngine"]

_PORTS = 5  # to try, if other programs take them first


class ComfyUIEngine:
    """Starts a ComfyUI and runs jobs on it; see `contract.Engine` for the methods.

    Args:
        spec: The checkout, its interpreter, arguments, packs, threads and `exact`.
        folder: A private folder, for what it writes and for its input files. The caller makes and deletes it.
        name: What the user calls the engine.

    Raises:
        EngineError: There is no ComfyUI, or it does not start.
    """

    def __init__(self, spec: EngineSpec, folder: Path, name: str) -> None:
        self.name = name
        self._spec, self._folder = spec, Path(folder).absolute()
        self._checkout, self._packs = checkout_of(spec), packs_of(spec)
        self._known = {
            "threads": max(1, spec.threads),
            "exact": spec.exact,
            "processor": {"name": processor_name()},
            "packs": describe_packs(self._packs),
        }
        self._written = WrittenFiles(self._folder)
        self._models = ModelFiles(self._checkout / "models")
        self._is_closed = False
        self._process: ComfyUIProcess | None = None
        self._server: RemoteServer | None = None
        interpreter_of(spec, self._checkout)
        self._started()

    def environment(self) -> dict[str, Any]:
        """Return what pictures are made with."""
        return self._started().environment()

    def object_info(self) -> dict[str, dict[str, Any]]:
        """Return the node classes of this ComfyUI."""
        return self._started().object_info()

    def put_inputs(self, files: Mapping[str, bytes]) -> None:
        """Upload files into the private input folder; they stay there also if the ComfyUI is started again."""
        self._started().put_inputs(files)
        self._written.keep(files)

    def run(self, job: Job, emit: Emit) -> JobResult:
        """Run a job, and block until it ended."""
        server = self._started()
        try:
            result = server.run(job, emit, self._models.of(job.prompt))
        except EngineLost as error:
            process = self._process
            if process is not None and not process.is_alive():
                raise EngineLost(f"the ComfyUI died with {process.ending()}\n{process.last_lines()}") from error
            self._stop()  # it lives but does not answer: the next call starts another one
            raise
        self._written.add(server.last_files)
        return result

    def interrupt(self) -> None:
        """Stop the running job, if there is one."""
        server = self._server
        if server is not None:
            server.interrupt()

    def close(self) -> None:
        """End the ComfyUI and everything it started."""
        self._is_closed = True
        self._stop()

    def _started(self) -> RemoteServer:
        """Return the server, which is started if it does not live."""
        if self._server is not None and self._process is not None and self._process.is_alive():
            return self._server
        self._stop()
        if self._is_closed:
            raise EngineError(f"{self.name} was closed")
        prepare_folder(self._folder, self._checkout, self._packs)
        sys.stderr.write(f"{self.name}: starting the ComfyUI in {self._checkout}\n")
        for remaining in reversed(range(_PORTS)):
            try:
                return self._start(free_port())
            except BaseException as error:
                is_taken = isinstance(error, EngineError) and self._process is not None
                is_taken = is_taken and self._process.found_its_port_taken()  # type: ignore[union-attr]
                self._stop()
                if not is_taken or not remaining:
                    raise
        raise AssertionError("unreachable")

    def _start(self, port: int) -> RemoteServer:
        command = command_line(self._spec, self._checkout, self._folder, port)
        client = connect(f"http://127.0.0.1:{port}")
        from host.engines.remote.server import RemoteServer

        self._process = process = ComfyUIProcess(
            command, self._checkout, environment_variables(self._spec), self._folder / "comfyui.log"
        )
        self._server = RemoteServer(client, process.is_alive, self._known, is_ours=True)
        process.wait_until(lambda: self._answers(str(self._folder / "output")))
        return self._server

    def _answers(self, argument: str) -> bool:
        """Return whether the ComfyUI answers, and not another program that took its port in the meantime."""
        return self._server is not None and argument in self._server.command_line()

    def _stop(self) -> None:
        server, self._server = self._server, None
        process, self._process = self._process, None
        if process is not None:
            process.stop()
        if server is not None:
            server.close()
