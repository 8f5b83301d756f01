"""Starting a process that holds one end of a pipe. Nobody else can open the pipe, so it needs no password."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from multiprocessing import Pipe
from multiprocessing.connection import Connection

from host.folders import ROOT

__all__ = ["inherited_end", "start_process"]

# `python -m MODULE` of this project, without changing the folder that relative names refer to, and without a
# PYTHONPATH that programs started from there would inherit.
_PROGRAM = "import runpy, sys; sys.path[0] = sys.argv.pop(1); runpy.run_module(sys.argv.pop(1), {}, '__main__', True)"


def start_process(module: str, environment: Mapping[str, str]) -> tuple[subprocess.Popen[bytes], Connection]:
    """Start a module of this project as a program with the other end of a new pipe as its argument.

    The process is in a session of its own, which Ctrl-C in the terminal does not reach. What it prints comes back
    through `stdout`.

    Args:
        module: The module, such as "host.workers.process"; it calls `inherited_end(sys.argv[1])`.
        environment: Variables in addition to this process's.

    Returns:
        The process, and this end of the pipe.
    """
    ours, theirs = Pipe()
    try:
        command = [sys.executable, "-c", _PROGRAM, str(ROOT), module, str(theirs.fileno())]
        process = _start(command, {**os.environ, **environment}, theirs)
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    return process, ours


def inherited_end(argument: str) -> Connection:
    """Return this process's end of the pipe. What is started from here does not inherit it."""
    if sys.platform == "win32":
        from multiprocessing.connection import PipeConnection

        os.set_handle_inheritable(int(argument), False)
        return PipeConnection(int(argument))
    os.set_inheritable(int(argument), False)
    return Connection(int(argument))


def _start(command: list[str], variables: Mapping[str, str], theirs: Connection) -> subprocess.Popen[bytes]:
    """Start a program that inherits `theirs` and nothing else."""
    quiet, both = subprocess.DEVNULL, subprocess.STDOUT
    if sys.platform == "win32":
        handle = theirs.fileno()
        os.set_handle_inheritable(handle, True)
        inherited = subprocess.STARTUPINFO(lpAttributeList={"handle_list": [handle]})
        group = subprocess.CREATE_NEW_PROCESS_GROUP
        return subprocess.Popen(
            command,
            env=variables,
            stdin=quiet,
            stdout=subprocess.PIPE,
            stderr=both,
            startupinfo=inherited,
            creationflags=group,
        )
    return subprocess.Popen(
        command,
        env=variables,
        stdin=quiet,
        stdout=subprocess.PIPE,
        stderr=both,
        pass_fds=[theirs.fileno()],
        start_new_session=True,
    )
