"""Apache Kafka beside the broker, from the jars of Maven Central: one node that is broker and controller."""

import socket
import subprocess
import time
from pathlib import Path

READY_WITHIN = 120
CLUSTER = "AAAAAAAAQACAAAAAAAAAAA"


class ApacheKafka:
    """A data directory and the process that serves it, with 1 GB of heap at most; `jars` is a folder of them."""

    name = "Kafka"

    def __init__(self, directory, jars, **settings):
        self.directory, self.jars, self.process = Path(directory), Path(jars), None
        self.port, controller = free_port(), free_port()
        self.kafka = f"127.0.0.1:{self.port}"
        self.directory.mkdir(parents=True)
        self.settings = self.directory / "server.properties"
        lines = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.bootstrap.servers": f"127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "log.dirs": f"{self.directory}/data",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            **settings,
        }
        self.settings.write_text("".join(f"{key}={value}\n" for key, value in lines.items()))
        self._run("kafka.tools.StorageTool", "format", "-t", CLUSTER, "-c", self.settings, "--standalone")

    def start(self):
        self.process = subprocess.Popen(self.command(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = self.process.pid
        answers(self.port, READY_WITHIN)
        return self

    def command(self):
        return self._java("kafka.Kafka", self.settings)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.process = None

    def close(self):
        if self.process:
            self.kill()

    def _java(self, main, *arguments):
        return ["java", "-Xmx1g", "-cp", f"{self.jars}/*", main, *map(str, arguments)]

    def _run(self, main, *arguments):
        subprocess.run(self._java(main, *arguments), check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


def answers(port, patience):
    """Waits until the broker describes itself to a client."""
    from kafka_wire import Wire  # the rest needs nothing but the standard library

    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        try:
            with Wire(port) as wire:
                if wire.call("Metadata", 9, topics=[]).brokers:
                    return
        except OSError:
            time.sleep(0.002)
    raise AssertionError("no answer")
