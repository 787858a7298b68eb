"""Java's part of the Kafka tests: its programs and jars, and the command-line tools of Apache Kafka 4.3."""

import queue
import subprocess
import threading

import interop

COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"
# A tool may wait for sessions of members that are gone.
TOOL_WITHIN = 240
ARGUMENT, LINE, END = "\x1f", "\x1e", "\x04"


def jars():
    """The folder of Apache Kafka's jars, the broker among them; skips where there is no Java."""
    interop.need("java", "javac", "mvn")

    def install(place):
        return ["mvn", "-B", "-q", COPY, "-DincludeScope=runtime", f"-DoutputDirectory={place / 'jars'}"]

    return interop.installed("kafka-java", install, ["pom.xml"]) / "jars"


def command():
    """The command that runs a class; skips where there is no Java."""
    place = jars().parent
    sources = sorted((interop.PROGRAMS / "kafka-java").glob("*.java"))
    newest = max(it.stat().st_mtime for it in sources)
    stamp = place / "compiled"
    if not stamp.exists() or stamp.stat().st_mtime < newest:
        compiled = subprocess.run(
            ["javac", "-nowarn", "-cp", f"{place}/jars/*", "-d", str(place / "classes"), *map(str, sources)], check=False,
            text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=interop.INSTALL_WITHIN,
        )
        assert compiled.returncode == 0, compiled.stdout
        stamp.touch()
    return ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{place}/classes:{place}/jars/*"]


class Tools:
    """Kafka's tools in one process, which saves each of them the start of a virtual machine."""

    def __init__(self, java, broker):
        self.broker = broker
        self._process = subprocess.Popen([*java, "Tools"], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __call__(self, name, *arguments, given="", status=0):
        """What a tool prints; it ends with `status`. `name` is what follows `org.apache.kafka.tools.`"""
        qualified = name if name.startswith("kafka.") else f"org.apache.kafka.tools.{name}"
        server = ["--bootstrap-server", self.broker.kafka]
        # ClusterTool alone wants its command first.
        arguments = [*arguments, *server] if name == "ClusterTool" else [*server, *arguments]
        fields = [qualified, given.replace("\n", LINE), *arguments]
        self._process.stdin.write(ARGUMENT.join(fields) + "\n")
        self._process.stdin.flush()
        printed = []
        while not (line := self._lines.get(timeout=TOOL_WITHIN)).startswith(END):
            printed.append(line)
        text = "".join(printed)
        assert int(line[1:]) == status, f"{name} {' '.join(arguments)}: {line[1:]}\n{text}"
        return text

    def close(self):
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()

    def _read(self):
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put(END + "-1 the process is gone")
