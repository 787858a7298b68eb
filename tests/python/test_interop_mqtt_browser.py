"""mqtt.js in a page of a headless Chromium, over WebSocket."""

import queue
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode

import pytest

import interop

STORIES = ["every_qos", "retained", "will_of_a_closed_page", "reconnect"]
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
# A browser on a busy machine takes its time to start.
TOLD_WITHIN = 120
FLAGS = [
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-popup-blocking",
    # Nothing but this machine can be found.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]


class Page(SimpleHTTPRequestHandler):
    """Serves the page's files, and hears what the page tells."""

    def do_POST(self):
        what = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.server.told.put(what)
        if what == "restart":
            self.server.restart()
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def browser():
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        pytest.skip(f"{' or '.join(BROWSERS)}: not installed")
    return found


@pytest.fixture
def site(tmp_path):
    """The page, served on this machine: a page of a file has no origin, and would have to be allowed."""
    for file in (interop.PROGRAMS / "mqtt-browser").iterdir():
        shutil.copy(file, tmp_path)
    shutil.copy(interop.mqtt_js() / "node_modules" / "mqtt" / "dist" / "mqtt.min.js", tmp_path)
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Page, directory=tmp_path))
    server.told = queue.Queue()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def tell(browser, site, profile, **settings):
    """Opens the page, and returns what it tells until it has ended."""
    address = f"http://127.0.0.1:{site.server_port}/index.html?{urlencode(settings)}"
    with open(profile / "log", "w+") as log:
        process = subprocess.Popen(
            [browser, *FLAGS, f"--user-data-dir={profile / 'data'}", address], stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            while (what := site.told.get(timeout=TOLD_WITHIN)) != "end":
                yield what
        except queue.Empty:
            log.seek(0)
            pytest.fail("the page says nothing more:\n" + log.read()[-4000:])
        finally:
            process.terminate()
            process.wait(TOLD_WITHIN)


@pytest.mark.parametrize("version", [4, 5])
def test_mqtt_js_in_a_page(browser, site, own_broker, name, tmp_path_factory, version):
    broker = own_broker()
    site.restart = broker.restart
    told = list(tell(
        browser, site, tmp_path_factory.mktemp("chromium"), url=f"ws://127.0.0.1:{broker.port('mqtt.websocket')}/mqtt",
        version=version, prefix=name, stories=",".join(STORIES),
    ))
    assert [it for it in told if it != "restart"] == [f"ok {story}" for story in STORIES]
