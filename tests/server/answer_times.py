"""Ask a host for /features every few milliseconds, from a process of its own, until the standard input ends.

    python answer_times.py PORT PID

Prints `ready`, and at the end a JSON list with a pair for each answer: the seconds that it took, and the processor
seconds that the host's process used meanwhile. A stall of the host's event loop by work of the host itself shows in
both; a machine that is busy with other programs makes the first one longer, but not the second.
"""

from __future__ import annotations

import json
import os
import select
import socket
import sys
import time

PERIOD = 0.005
_CPUCLOCK_SCHED = 2  # clock_getcpuclockid(3): the clock of all threads of another process


def main(port: int, pid: int) -> None:
    """Sample until the standard input ends."""
    try:
        os.nice(-10)
    except OSError:  # only root may
        pass
    clock = (~pid << 3) | _CPUCLOCK_SCHED
    connection = socket.create_connection(("127.0.0.1", port), timeout=200)
    request = f"GET /features HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode()
    times = []
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], PERIOD)[0]:
        start, used = time.perf_counter(), time.clock_gettime(clock)
        connection.sendall(request)
        answer = connection.recv(1 << 16)
        times.append((time.perf_counter() - start, time.clock_gettime(clock) - used))
        assert answer.startswith(b"HTTP/1.1 200"), answer
    print(json.dumps(times))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
