"""Places on this machine where processes of a cluster may listen."""

import contextlib
import socket


def free_addresses(count: int) -> list[str]:
    """As many addresses that nobody listened at a moment ago."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.create_server(("localhost", 0))) for _ in range(count)]
        return [f"localhost:{listening.getsockname()[1]}" for listening in sockets]
