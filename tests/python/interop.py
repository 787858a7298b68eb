"""Programs in other languages as tests: where they are installed, how they are run, what they tell.

A program is given the names of its stories and the broker in `AMQP_URL`; queue names begin with `PREFIX`. It prints
`ok STORY` or `failed STORY: why` for each. A story that needs the broker to go and come back prints `restart`
and reads a line when the broker is there again.
"""

import hashlib
import os
import shutil
import subprocess
import threading
from pathlib import Path

import pytest

PROGRAMS = Path(__file__).resolve().parents[1] / "interop"
# The first run downloads and compiles.
INSTALL_WITHIN = 900
RUN_WITHIN = 480


def home():
    """Where clients are installed: once, outside the sources."""
    target = os.environ.get("CARGO_TARGET_DIR") or PROGRAMS.parents[1] / "target"
    return Path(os.environ.get("TRIVIUM_INTEROP") or Path(target) / "interop")


def need(*tools):
    """Skips where a toolchain is missing."""
    missing = [it for it in tools if shutil.which(it) is None]
    if missing:
        pytest.skip(f"{', '.join(missing)}: not installed")


def installed(language, install, files):
    """The place of a program's dependencies, installed again when one of the files that name them changes."""
    place = home() / language
    source = PROGRAMS / language
    wanted = hashlib.sha256(b"".join((source / it).read_bytes() for it in files)).hexdigest()
    stamp = place / "installed"
    if not stamp.exists() or stamp.read_text() != wanted:
        place.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            install(place), cwd=source, timeout=INSTALL_WITHIN, check=False, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        stamp.write_text(wanted)
    return place


def mqtt_js():
    """The place of mqtt.js, which has its bundle for browsers in it too."""
    need("node", "npm")
    files = ("package.json", "package-lock.json")

    def install(place):
        for file in files:
            shutil.copy(PROGRAMS / "mqtt-node" / file, place)
        return ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix", str(place)]

    return installed("mqtt-node", install, files)


def tell(command, stories, broker, prefix, environment=None, within=RUN_WITHIN):
    """Runs a program; returns what it said of each story."""
    process = subprocess.Popen(
        [*map(str, command), *stories], text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, cwd=home(),
        env={**os.environ, "AMQP_URL": broker.amqp_url.rstrip("/") + "/%2f", "PREFIX": prefix, **(environment or {})},
    )
    too_long = threading.Timer(within, process.kill)
    too_long.start()
    told, output = {}, []
    try:
        for line in process.stdout:
            output.append(line)
            word, _, rest = line.strip().partition(" ")
            if word == "ok":
                told[rest] = None
            elif word == "failed":
                story, _, why = rest.partition(": ")
                told[story] = why
            elif line.strip() == "restart":
                broker.restart()
                process.stdin.write("restarted\n")
                process.stdin.flush()
        process.wait()
    finally:
        too_long.cancel()
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
    for story in stories:
        assert story in told, f"{story} was not told, exit status {process.returncode}:\n" + "".join(output)[-4000:]
        assert told[story] is None, f"{story}: {told[story]}\n" + "".join(output)[-4000:]


def drain(stream, lines):
    """Reads a program's output on the side, so that it never waits for a reader."""

    def run():
        for line in stream:
            lines.append(line)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread
