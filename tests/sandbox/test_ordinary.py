"""Sandboxes of an ordinary user that join namespaces."""

import threading
from dataclasses import replace

from omniperf.sandbox.bubblewrap import Bubblewrap
from omniperf.sandbox.loopback import Loopback
from omniperf.sandbox.spec import Spec
from omniperf.sandbox.standing import StandingSandbox
from tests.sandbox.conftest import as_ordinary_user


def test_two_sandboxes_can_share_a_network_and_nothing_else(spec: Spec) -> None:
    (spec.source("/workspace") / "serve.py").write_text(
        "import socket\n"
        "open('/tmp/left', 'w').close()\n"
        "with socket.create_server(('127.0.0.1', 8000)) as port: port.accept()[0].send(b'hello')\n"
    )
    (spec.source("/workspace") / "ask.py").write_text(
        "import os, socket, time\n"
        "while True:\n"
        "    try: said = socket.create_connection(('127.0.0.1', 8000), 5).recv(9); break\n"
        "    except ConnectionRefusedError: time.sleep(0.01)\n"
        "lists = os.listdir('/tmp'), os.listdir('/proc/self/fd')[3:]\n"
        "print(said, [name for _, name in socket.if_nameindex()], *lists)\n"
    )

    def use() -> str:
        with Loopback() as network:
            joined = replace(spec, joins=network.namespaces)
            with StandingSandbox(Bubblewrap(), joined) as one, StandingSandbox(Bubblewrap(), joined) as other:
                serving = threading.Thread(target=one.run, args=("python serve.py", 20))
                serving.start()
                found = other.run("python ask.py", 20).output
                serving.join()
                return found

    assert as_ordinary_user(use) == "b'hello' ['lo'] [] ['3']\n", "3 lists the folder"
