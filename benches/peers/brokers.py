"""Brokers to measure: Trivium, RabbitMQ, Apache Kafka and Mosquitto, each in a directory of its own on free ports.

A peer that is missing is installed: Debian's packages (their services are not started), Kafka's jars by Maven.
"""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tests" / "python"))

import rabbitmq  # noqa: E402
from apache_kafka import ApacheKafka, free_port  # noqa: E402

TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
KAFKA_VERSION = "4.3.1"
MOSQUITTO = Path("/usr/sbin/mosquitto")

RUNNING = []


class Unavailable(Exception):
    """A peer that cannot be had here; the others are still measured."""


def say(text):
    print(text, file=sys.stderr, flush=True)


# Installing


def install_packages(*names):
    """Installs Debian packages without letting them start their services."""
    if shutil.which("apt-get") is None:
        raise Unavailable(f"{' '.join(names)}: no apt-get here")
    admin = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if admin and shutil.which("sudo") is None:
        raise Unavailable(f"{' '.join(names)}: not root, and no sudo")
    policy = Path("/usr/sbin/policy-rc.d")
    ours = not policy.exists()
    try:
        if ours:
            refuse = "printf '#!/bin/sh\\nexit 101\\n' > %s && chmod 755 %s" % (policy, policy)
            subprocess.run([*admin, "sh", "-c", refuse], check=True)
        environment = [*admin, "env", "DEBIAN_FRONTEND=noninteractive"]
        log = subprocess.DEVNULL
        subprocess.run([*environment, "apt-get", "update", "-q"], check=False, stdout=log, stderr=log, timeout=120)
        install = [*environment, "apt-get", "install", "-y", "-q", "--no-install-recommends", *names]
        subprocess.run(install, check=True, stdout=log, stderr=log, timeout=300)
    except (subprocess.SubprocessError, OSError) as error:
        raise Unavailable(f"{' '.join(names)}: {error}") from error
    finally:
        if ours:
            subprocess.run([*admin, "rm", "-f", str(policy)], check=False)


def kafka_jars():
    """The jars of Apache Kafka, fetched once by their Maven coordinates."""
    jars = TARGET / "bench-peers" / f"kafka-{KAFKA_VERSION}"
    if (jars / "complete").exists():
        return jars
    if shutil.which("mvn") is None or shutil.which("java") is None:
        raise Unavailable("Apache Kafka: needs java (17 or later) and mvn")
    jars.mkdir(parents=True, exist_ok=True)
    wanted = [("org.apache.kafka", "kafka_2.13", KAFKA_VERSION), ("org.slf4j", "slf4j-nop", "1.7.36")]
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId><version>{version}</version></dependency>"
        for group, name, version in wanted
    )
    (jars / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>bench</groupId><artifactId>peers</artifactId><version>1</version><packaging>pom</packaging>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )
    copy = ["mvn", "-B", "-q", "dependency:copy-dependencies", "-DincludeScope=runtime", f"-DoutputDirectory={jars}"]
    try:
        subprocess.run(copy, cwd=jars, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=300)
    except (subprocess.SubprocessError, OSError) as error:
        raise Unavailable(f"Apache Kafka: its jars cannot be fetched ({error})") from error
    (jars / "complete").touch()
    return jars


# Brokers


class Broker:
    """A broker in a directory of its own on free ports."""

    name = "broker"

    def __init__(self, directory):
        self.directory = Path(directory) / self.name.lower()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.ports = {}
        self.process = None
        self.start_seconds = None
        self.idle_rss = None

    def start(self, limit=90):
        command, environment = self.command()
        log = open(self.directory / "log.txt", "ab")
        began = time.monotonic()
        self.process = subprocess.Popen(
            command,
            env={**os.environ, **environment},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
        RUNNING.append(self)
        while not self.is_ready():
            if self.process.poll() is not None or time.monotonic() - began > limit:
                tail = (self.directory / "log.txt").read_bytes()[-2000:].decode(errors="replace")
                self.stop()
                raise Unavailable(f"{self.name} did not start:\n{tail}")
            time.sleep(0.002)
        self.start_seconds = time.monotonic() - began

    def pids(self):
        """The broker's process and its children."""
        return tree(self.process.pid)

    def rest(self, seconds):
        """Lets the broker come to rest and notes what it holds then."""
        time.sleep(seconds)
        self.idle_rss = sum(rss(pid) for pid in self.pids())

    def is_ready(self):
        return all(accepts(port) for port in self.ports.values())

    def stop(self, how=signal.SIGTERM):
        if self.process is None:
            return
        for attempt in (how, signal.SIGKILL):
            try:
                os.killpg(self.process.pid, attempt)
                self.process.wait(timeout=20)
                break
            except ProcessLookupError:
                break
            except subprocess.TimeoutExpired:
                continue
        # Children that outlive their parent are still of its group.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait()
        self.process = None
        if self in RUNNING:
            RUNNING.remove(self)


class Trivium(Broker):
    name = "Trivium"

    def __init__(self, directory, binary):
        super().__init__(directory)
        self.binary = binary
        self.ports = {name: free_port() for name in ("amqp", "kafka", "mqtt", "mqtt.websocket", "http")}

    def command(self):
        environment = {f"TRIVIUM_{name.upper().replace(chr(46), chr(95) * 2)}__LISTEN": f"127.0.0.1:{port}" for name, port in self.ports.items()}
        environment["TRIVIUM_DATA_DIR"] = str(self.directory / "data")
        environment["TRIVIUM_DURABILITY"] = "os"
        return [str(self.binary), "serve"], environment

    def is_ready(self):
        url = f"http://127.0.0.1:{self.ports['http']}/health/ready"
        try:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
            return opener.open(url, timeout=5).status == 200
        except OSError:
            return False


class RabbitMQ(Broker):
    name = "RabbitMQ"

    def __init__(self, directory):
        if not rabbitmq.is_installed():
            say("installing rabbitmq-server")
            install_packages("rabbitmq-server")
        super().__init__(directory)
        self.node = rabbitmq.RabbitMQ(self.directory)
        self.ports = {"amqp": self.node.port("amqp")}

    def command(self):
        return [str(rabbitmq.SERVER)], self.node.environment()

    def stop(self, how=signal.SIGTERM):
        started = self.process is not None
        super().stop(how)
        if started:
            self.node.end_name_server()


class Kafka(Broker):
    name = "Kafka"

    def __init__(self, directory):
        jars = kafka_jars()
        super().__init__(directory)
        self.node = ApacheKafka(self.directory / "node", jars, **{
            "offsets.topic.num.partitions": 1, "group.initial.rebalance.delay.ms": 0,
        })
        self.ports = {"kafka": self.node.port}

    def command(self):
        return self.node.command(), {}


class Mosquitto(Broker):
    name = "Mosquitto"

    def __init__(self, directory):
        if not MOSQUITTO.exists():
            say("installing mosquitto")
            install_packages("mosquitto")
        super().__init__(directory)
        self.ports = {"mqtt": free_port()}

    def command(self):
        # Unlimited queues, so that what a slow subscriber has not yet read is not dropped.
        settings = f"listener {self.ports['mqtt']} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\n"
        (self.directory / "mosquitto.conf").write_text(settings)
        return [str(MOSQUITTO), "-c", str(self.directory / "mosquitto.conf")], {}


def accepts(port):
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tree(root):
    """A process and all that descend from it."""
    parents = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(") ")[2].split()[1])
            except (OSError, IndexError):
                continue
    found, before = {root}, 0
    while len(found) > before:
        before = len(found)
        found |= {pid for pid, parent in parents.items() if parent in found}
    return found


def rss(pid):
    try:
        match = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except OSError:
        return 0
    return int(match[1]) * 1024 if match else 0


def cpu_seconds(pid):
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def disk_usage(directory):
    total = 0
    for path in Path(directory).rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:
            continue
    return total


def stop_everything():
    for broker in list(RUNNING):
        broker.stop(signal.SIGKILL)
