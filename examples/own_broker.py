"""A broker for an example: the release build on free ports, with a data directory that goes with it."""

import json
import os
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

STOPPED_WITHIN = 20
PROTOCOLS = ("AMQP", "KAFKA", "MQTT", "MQTT__WEBSOCKET", "HTTP")


class OwnBroker:
    """Started on entering, stopped on leaving. `addresses` are HOST:PORT by protocol."""

    def __enter__(self):
        self._directory = tempfile.TemporaryDirectory()
        self.addresses = {}
        self.start()
        return self

    def __exit__(self, *_):
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(STOPPED_WITHIN)
        self._directory.cleanup()

    def start(self):
        """Returns once it listens; a second time on the addresses that it had."""
        built = Path(__file__).resolve().parents[1] / "target" / "release" / "trivium"
        binary = os.environ.get("TRIVIUM_BIN") or os.environ.get("TRIVIUM_BINARY") or str(built)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("TRIVIUM_")}
        environment |= {"TRIVIUM_DATA_DIR": self._directory.name, "TRIVIUM_LOG__FORMAT": "json"}
        for protocol in PROTOCOLS:
            name = protocol.lower().replace("__", ".")
            environment[f"TRIVIUM_{protocol}__LISTEN"] = self.addresses.get(name, "127.0.0.1:0")
        self._process = subprocess.Popen([binary, "serve"], env=environment, stderr=subprocess.PIPE, text=True)
        listening, line = {}, ""
        for line in self._process.stderr:
            fields = json.loads(line)["fields"] if line.startswith("{") else {}
            if "address" in fields:
                listening[fields["protocol"]] = fields["address"]
            if len(listening) == len(PROTOCOLS):
                break
        else:
            raise SystemExit(f"the broker did not start: {line}")
        threading.Thread(target=self._process.stderr.read, daemon=True).start()
        self.addresses = listening

    def kill(self):
        """Ends it between two instructions (SIGKILL)."""
        self._process.kill()
        self._process.wait(STOPPED_WITHIN)
