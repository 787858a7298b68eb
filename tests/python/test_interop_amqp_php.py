"""PHP: php-amqplib, as Debian has it."""

import subprocess

import pytest

import interop

STORIES = ["work_queue", "topic_exchange", "rpc", "retry", "returns", "transactions", "errors"]


@pytest.fixture(scope="module")
def program():
    interop.need("php")
    library = subprocess.run(
        ["php", "-r", "exit((int) !stream_resolve_include_path('PhpAmqpLib/autoload.php'));"], check=False, timeout=30
    )
    if library.returncode:
        pytest.skip("php-amqplib: not installed")
    return ["php", interop.PROGRAMS / "php" / "stories.php"]


def test_php(program, broker, name):
    interop.tell(program, STORIES, broker, name)
