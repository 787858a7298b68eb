"""The management API, as an HTTP client sees it."""

import base64
import json
import urllib.error
import urllib.parse
import urllib.request


class Management:
    """Requests of one user."""

    def __init__(self, broker, user="guest", password="guest"):
        self._base = f"http://{broker.addresses['http']}/api/"
        credentials = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {credentials}", "Content-Type": "application/json"}

    def ask(self, method, path, body=None):
        """The status and the decoded answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self._base + path, data, self._headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as response:
                status, answer = response.status, response.read()
        except urllib.error.HTTPError as error:
            status, answer = error.code, error.read()
        return status, json.loads(answer) if answer else None

    def get(self, *names):
        status, answer = self.ask("GET", path(*names))
        assert status == 200, answer
        return answer

    def put(self, *names, **body):
        status, answer = self.ask("PUT", path(*names), body)
        assert status in (201, 204), answer
        return status

    def post(self, *names, body):
        status, answer = self.ask("POST", path(*names), body)
        assert status in (201, 204), answer

    def delete(self, *names):
        status, answer = self.ask("DELETE", path(*names))
        assert status == 204, answer


def path(*names):
    return "/".join(urllib.parse.quote(name, safe="") for name in names)
