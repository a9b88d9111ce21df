"""What tests of server processes share."""

import socket
import time

from tfrec_fusion.serving.client.client import Client
from tfrec_fusion.serving.client.errors import ServingError


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


def wait_for(url, name, process, seconds=60):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert process.poll() is None, "the server ended"
        try:
            with Client.connect(url, name, timeout=2) as client:
                if any(version["state"] == "AVAILABLE" for version in client.status()):
                    return
        except ServingError:
            pass
        time.sleep(0.1)
    raise AssertionError("the server did not become ready")
