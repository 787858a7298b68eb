"""Every Kafka scenario beside what Apache Kafka 4.3.1 was recorded to do; `make parity-kafka` asks Kafka itself."""

import os
import subprocess
import sys
from pathlib import Path

RUN = Path(__file__).resolve().parents[1] / "parity" / "kafka" / "run"


def test_only_intended_differences():
    done = subprocess.run(
        [sys.executable, str(RUN), "--recorded"], env=os.environ, check=False, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, timeout=300,
    )
    assert done.returncode == 0, done.stdout[-12000:]
