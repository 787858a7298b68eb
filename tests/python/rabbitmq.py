"""Debian's RabbitMQ as a broker of one's own: free ports, its own data, nothing left behind."""

import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path

from apache_kafka import free_port

SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
CONTROL = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
READY_WITHIN = 120
ATTEMPTS = 3
PORT_TAKEN = "dist_port_already_used"
STOPPED_WITHIN = 30


def is_installed():
    return SERVER.exists()


def quiet_port():
    """A free port below those of outgoing connections, which may be many: the node starts long after it was chosen."""
    while True:
        with socket.socket() as it:
            try:
                it.bind(("127.0.0.1", random.randrange(20_000, 32_000)))
                return it.getsockname()[1]
            except OSError:
                continue


class RabbitMQ:
    """One node. `settings` are lines of rabbitmq.conf, `plugins` names of those that are enabled."""

    def __init__(self, directory, settings=(), definitions=None, plugins=()):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ports = {"amqp": free_port()}
        self.epmd_port, self.distribution_port = quiet_port(), quiet_port()
        self.node = f"parity{os.getpid()}@localhost"
        self.settings = [f"listeners.tcp.1 = 127.0.0.1:{self.ports['amqp']}", "log.file.level = error", *settings]
        if "rabbitmq_management" in plugins:
            self.ports["http"] = free_port()
            self.settings += ["management.tcp.ip = 127.0.0.1", f"management.tcp.port = {self.ports['http']}"]
        if definitions is not None:
            self.settings.append(f"load_definitions = {definitions}")
        self.plugins = plugins
        self.process, self.log = None, []

    def environment(self):
        (self.directory / "conf").write_text("\n".join(self.settings) + "\n")
        (self.directory / "plugins").write_text(f"[{','.join(self.plugins)}].\n")
        return {
            **os.environ,
            "HOME": str(self.directory),
            "ERL_EPMD_PORT": str(self.epmd_port),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": self.node,
            "RABBITMQ_DIST_PORT": str(self.distribution_port),
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",
            "RABBITMQ_CONFIG_FILE": str(self.directory / "conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(self.directory / "plugins"),
            "RABBITMQ_MNESIA_BASE": str(self.directory / "db"),
            "RABBITMQ_LOG_BASE": str(self.directory / "log"),
        }

    # The names that tests know from Trivium's broker.

    def port(self, protocol):
        return self.ports[protocol]

    @property
    def amqp_url(self):
        return f"amqp://guest:guest@127.0.0.1:{self.ports['amqp']}/"

    def start(self):
        """Starts the node, on another port for its peers when somebody took the one that was free a moment ago."""
        for _ in range(ATTEMPTS):
            if self.came_up():
                return self
            self.epmd_port, self.distribution_port = quiet_port(), quiet_port()
        raise AssertionError("RabbitMQ does not start:\n" + self.console()[-3000:])

    def console(self):
        return (self.directory / "console.log").read_text(errors="replace")

    def came_up(self):
        """Whether the node accepts connections; it does not when its port for peers is taken."""
        log = open(self.directory / "console.log", "wb")
        self.process = subprocess.Popen(
            [str(SERVER)], env=self.environment(), cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log,
            stderr=log, start_new_session=True,
        )
        deadline = time.monotonic() + READY_WITHIN
        while not self.accepts():
            if self.process.poll() is not None:
                assert PORT_TAKEN in self.console(), self.console()[-3000:]
                self.end_name_server()
                return False
            if time.monotonic() > deadline:
                self.close()
                raise AssertionError("RabbitMQ is not ready:\n" + self.console()[-3000:])
            time.sleep(0.05)
        return True

    def accepts(self):
        """Whether the node is beyond its boot: it answers a protocol header."""
        try:
            with socket.create_connection(("127.0.0.1", self.ports["amqp"]), 2) as probe:
                probe.sendall(b"AMQP\x00\x00\x09\x01")
                probe.settimeout(5)
                return bool(probe.recv(1))
        except OSError:
            return False

    def control(self, *arguments):
        """rabbitmqctl on this node."""
        done = subprocess.run(
            [str(CONTROL), "-q", "-n", self.node, *arguments], env=self.environment(), check=True, timeout=60,
            capture_output=True, text=True,
        )
        return done.stdout

    def restart(self):
        self.stop()
        return self.start()

    def stop(self):
        """Ends the node and whatever it started."""
        if self.process is None:
            return
        for attempt in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, attempt)
                self.process.wait(STOPPED_WITHIN)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process = None
        self.end_name_server()

    def end_name_server(self):
        """Ends the name server that the node started: a daemon, known by its port, which is ours alone."""
        subprocess.run(
            ["epmd", "-port", str(self.epmd_port), "-kill"], check=False, timeout=10, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def close(self):
        self.stop()
