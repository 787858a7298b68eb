"""The demonstrations of `examples/` end well: they account for what they sent."""

import subprocess
import sys
from pathlib import Path

from broker import binary

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def run(*arguments):
    environment = {"TRIVIUM_BIN": binary(), "PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=EXAMPLES, env=environment, capture_output=True, text=True, timeout=300
    )


def test_one_message_across_three_protocols():
    ended = run("demo.py")
    assert ended.returncode == 0, ended.stdout + ended.stderr


def test_a_factory_whose_broker_is_killed():
    ended = run("factory.py", "--seconds", "2", "--kills", "2")
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "the account balances" in ended.stdout
