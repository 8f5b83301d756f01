"""What a run that was cancelled, or failed, leaves of its step replay.

A node that does not end reports nothing. Its sheet is described in a file of the temp folder, which the editor asks
for by the id of the node once the host says that the run was stopped.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..backend import current
from .http import serve_lookup
from .replay import Replay
from .replay_sheet import write_atomically

__all__ = ["partial_kept", "serve_partial_replays"]

_log = logging.getLogger(__name__)


@contextmanager
def partial_kept(replay: Replay) -> Iterator[None]:
    """Keep what a replay has, if the run inside does not end; the run's own exception goes on."""
    try:
        yield
    except BaseException:
        try:
            _keep(replay)
        except Exception as error:  # the run has failed for another reason, which must be heard
            _log.warning("the replay of a stopped run could not be kept: %s", error)
        raise


def _keep(replay: Replay) -> None:
    running, folder = current().running_node(), current().folder("temp")
    if running is None:
        return
    prompt_id, node_id = running
    sheets = replay.sheets(folder)
    if sheets:
        described = {**sheets[0], "partial": True, "prompt_id": prompt_id, "node": node_id}
        write_atomically(_file(folder, node_id), json.dumps(described).encode())


def partial_replay(node_id: str) -> Mapping[str, Any] | None:
    """Return the sheet of the last run of a node that did not end, as :meth:`Replay.sheets` describes it.

    Args:
        node_id: The id of the node in the prompt; from a stranger.

    Returns:
        The sheet with ``partial``, ``prompt_id`` and ``node``; None if there is none.
    """
    try:
        described: Mapping[str, Any] = json.loads(_file(current().folder("temp"), node_id).read_bytes())
    except (OSError, ValueError):
        return None
    return described


def serve_partial_replays() -> None:
    """Serve :func:`partial_replay` under GET ``/ddim/replay/of/NODE_ID``."""
    serve_lookup("/ddim/replay/of", partial_replay)


def _file(folder: Path, node_id: str) -> Path:
    return folder / f"ddim_stopped_{hashlib.sha256(node_id.encode()).hexdigest()[:20]}.json"
