"""A broker of one's own: the real program on free ports with its own data directory."""

import json
import os
import re
import signal
import subprocess
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

PROTOCOLS = ("amqp", "kafka", "mqtt", "mqtt.websocket", "http")
# Seconds, on a machine that is busy with a dozen other things.
READY_WITHIN = 60
STOPPED_WITHIN = 60
CRASH = re.compile(r"panicked|RUST_BACKTRACE")


def binary():
    """The program under test: what the environment names, else the release build."""
    for variable in ("TRIVIUM_BIN", "TRIVIUM_BINARY"):
        if variable in os.environ:
            return os.environ[variable]
    return str(Path(__file__).resolve().parents[2] / "target" / "release" / "trivium")


class Broker:
    """One data directory, and the process that serves it now."""

    def __init__(self, data_dir, **settings):
        self.data_dir = Path(data_dir)
        self.log = []
        self.addresses = {}
        self._settings = {"durability": "os", **settings}
        self._process = None

    def start(self):
        """Starts the program and returns once every listener accepts."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("TRIVIUM_")}
        environment["TRIVIUM_DATA_DIR"] = str(self.data_dir)
        environment["TRIVIUM_LOG__FORMAT"] = "json"
        for protocol in PROTOCOLS:
            # A restart keeps the addresses: clients of the first life find the second.
            variable = protocol.upper().replace(".", "__")
            environment[f"TRIVIUM_{variable}__LISTEN"] = self.addresses.get(protocol, "127.0.0.1:0")
        for key, value in self._settings.items():
            environment[f"TRIVIUM_{key.upper()}"] = str(value)
        self._process = subprocess.Popen(
            [binary(), "serve"], env=environment, stderr=subprocess.PIPE, text=True, cwd=tempfile.gettempdir()
        )
        self._read_addresses()
        self._reader = threading.Thread(target=self._drain, args=(self._process.stderr,), daemon=True)
        self._reader.start()
        self._wait_ready()
        return self

    def stop(self):
        """Asks the program to stop: it drains, exits with 0, and has not panicked."""
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(STOPPED_WITHIN)
        self._end()
        assert status == 0, f"exit status {status}:\n" + "".join(self.log)

    def kill(self):
        """Ends the process between two instructions."""
        self._process.kill()
        self._process.wait(STOPPED_WITHIN)
        self._end()

    def restart(self):
        self.stop()
        return self.start()

    def close(self):
        if self._process is not None:
            self.stop()

    def port(self, protocol):
        return int(self.addresses[protocol].rsplit(":", 1)[1])

    @property
    def kafka(self):
        return self.addresses["kafka"]

    @property
    def amqp_url(self):
        return f"amqp://guest:guest@{self.addresses['amqp']}/"

    def metrics(self):
        return self._http("/metrics")

    def _end(self):
        self._reader.join(STOPPED_WITHIN)
        self._process.stderr.close()
        self._process = None
        crashes = [line for line in self.log if CRASH.search(line)]
        assert not crashes, "".join(crashes)

    def _read_addresses(self):
        for line in self._process.stderr:
            self.log.append(line)
            fields = json.loads(line)["fields"] if line.startswith("{") else {}
            if fields.get("message", "").startswith("listening"):
                self.addresses[fields["protocol"]] = fields["address"]
            if len(self.addresses) == len(PROTOCOLS) and fields.get("protocol") == PROTOCOLS[-1]:
                return
        raise AssertionError("did not start:\n" + "".join(self.log))

    def _drain(self, stream):
        for line in stream:
            self.log.append(line)

    def _wait_ready(self):
        deadline = time.monotonic() + READY_WITHIN
        while time.monotonic() < deadline:
            try:
                self._http("/health/ready")
                return
            except OSError:
                if self._process.poll() is not None:
                    self._reader.join(STOPPED_WITHIN)  # its last words may still be on their way
                    raise AssertionError("did not start:\n" + "".join(self.log)) from None
                time.sleep(0.001)
        raise AssertionError("not ready:\n" + "".join(self.log))

    def _http(self, path):
        with urllib.request.urlopen(f"http://{self.addresses['http']}{path}", timeout=READY_WITHIN) as response:
            return response.read().decode()
