"""What the parity tests of all protocols share: scenarios and their transcripts, compared with a peer's.

Without arguments both brokers are started and three comparisons are made: the peer with what was recorded of
it, Trivium with the peer, and the differences found with those that are intended (differences.toml).
`--recorded` needs no peer: it takes the recording for it. `--record` writes the recording anew.
"""

import argparse
import contextlib
import difflib
import importlib
import re
import tempfile
import tomllib
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase


class Parity:
    """The scenarios of one folder, and who is compared.

    `here` is the folder, with `scenarios`, `recorded` and `differences.toml`; `scenarios` what they register
    themselves in; `play(broker, name)` gives a transcript. `peer` is its key in `differences.toml`, `title` what
    it is called; `missing` says why it cannot be started, if it cannot.
    """

    def __init__(self, here, scenarios, play, peer, title, start_peer, start_trivium, missing, at_a_time):
        self.here, self.scenarios, self.play, self.at_a_time = here, scenarios, play, at_a_time
        self.peer, self.title, self.missing = peer, title, missing
        self.start_peer, self.start_trivium = start_peer, start_trivium
        self.recorded = here / "recorded"

    def main(self):
        """Does what the command line says, and returns the exit code."""
        chosen = options(self.title)
        names = self.load(chosen.scenarios)
        if not chosen.recorded and (why := self.missing()):
            print(f"skipped: {why} (try --recorded)")
            return 0
        failed = False
        with tempfile.TemporaryDirectory(prefix="parity") as directory:
            recording = self.read_recording()
            if chosen.recorded:
                theirs = {name: recording[name] for name in names}
            else:
                with started(self.start_peer(directory)) as broker:
                    theirs = self.transcripts(broker, names)
                if chosen.show:
                    show(self.title, theirs)
                if chosen.record:
                    self.write_recording(theirs)
                    print(f"recorded {len(names)} scenarios")
                    return 0
                told = self.compare(names, {name: recording.get(name, []) for name in names}, theirs, None)
                failed |= report(f"{self.title} does not do what was recorded", told)
            with started(self.start_trivium(directory)) as broker:
                ours = self.transcripts(broker, names)
            if chosen.show:
                show("Trivium", ours)
        intended = Intended(self.here, self.peer, names)
        told = self.compare(names, theirs, ours, intended)
        failed |= report(f"differences that are not intended (- {self.title}, + Trivium)", told)
        if not chosen.scenarios:
            stale = [f"{it['scenarios']}: {it['reason']}" for it in intended.stale()]
            failed |= report("intended differences that are not there", stale)
        lines = sum(map(len, ours.values()))
        verdict = "FAILED" if failed else "ok"
        print(f"{len(names)} scenarios, {lines} lines, {len(intended.used)} intended differences, {verdict}")
        return 1 if failed else 0

    def load(self, patterns):
        """The names of the scenarios that are meant."""
        for module in sorted((self.here / "scenarios").glob("[a-z]*.py")):
            importlib.import_module(f"scenarios.{module.stem}")
        chosen = [name for name in self.scenarios if not patterns or any(fnmatchcase(name, it) for it in patterns)]
        assert chosen, f"no scenario is called {patterns}"
        return chosen

    def transcripts(self, broker, names):
        """Each scenario's transcript; several run side by side, because most of them wait most of the time."""
        with ThreadPoolExecutor(self.at_a_time) as pool:
            return dict(zip(names, pool.map(lambda name: self.play(broker, name), names)))

    def read_recording(self):
        found, lines = {}, None
        for file in sorted(self.recorded.glob("*.txt")):
            for line in file.read_text().splitlines():
                if line.startswith("== "):
                    lines = found.setdefault(line[3:], [])
                elif lines is not None:
                    lines.append(line)
        return found

    def write_recording(self, found):
        self.recorded.mkdir(exist_ok=True)
        everything = {**self.read_recording(), **found}
        by_module = {}
        for name in everything:
            if name in self.scenarios:
                by_module.setdefault(name.partition(".")[0], []).append(name)
        for file in self.recorded.glob("*.txt"):
            file.unlink()
        for module, names in by_module.items():
            sections = ("\n".join([f"== {name}", *everything[name]]) for name in sorted(names))
            (self.recorded / f"{module}.txt").write_text("\n".join(sections) + "\n")

    def compare(self, names, theirs, ours, intended):
        """The differences that nobody meant, told as text."""
        told = []
        for name in names:
            mine = ours[name] if intended is None else intended.rewritten(name, ours[name])
            for left, right in changes(theirs[name], mine):
                if intended is None or not intended.covers(name, left, right):
                    told += [f"== {name}", *(f"- {it}" for it in left), *(f"+ {it}" for it in right)]
        return told


class Intended:
    """The differences that are meant: which lines of which scenarios stand for which."""

    def __init__(self, here, peer, names):
        listed = tomllib.loads((here / "differences.toml").read_text())
        self.entries = [it for it in listed.get("difference", []) if any(self.concerns(it, name) for name in names)]
        self.rewrites, self.peer = listed.get("rewrite", []), peer
        self.used = set()

    @staticmethod
    def concerns(entry, name):
        return any(fnmatchcase(name, it) for it in entry["scenarios"])

    def rewritten(self, name, lines):
        """Trivium's lines as the peer's would be, where the same difference is in many lines."""
        for rewrite in self.rewrites:
            if self.concerns(rewrite, name):
                lines = [re.sub(rewrite["trivium"], rewrite[self.peer], it) for it in lines]
        return lines

    def covers(self, name, theirs, ours):
        """Whether this change of lines is what one entry says, or several entries one after the other."""
        if not theirs and not ours:
            return True
        for number, entry in enumerate(self.entries):
            left, right = entry.get(self.peer, []), entry.get("trivium", [])
            if not self.concerns(entry, name) or not (left or right):
                continue
            if theirs[: len(left)] == left and ours[: len(right)] == right:
                if self.covers(name, theirs[len(left) :], ours[len(right) :]):
                    self.used.add(number)
                    return True
        return False

    def stale(self):
        return [entry for number, entry in enumerate(self.entries) if number not in self.used]


def options(peer):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scenarios", nargs="*", help="patterns of names, as in queues.*; all without")
    parser.add_argument("--record", action="store_true", help=f"only {peer}, and keep what it says")
    parser.add_argument("--recorded", action="store_true", help="only Trivium, beside what was recorded")
    parser.add_argument("--show", action="store_true", help="print the transcripts")
    return parser.parse_args()


@contextlib.contextmanager
def started(broker):
    try:
        yield broker.start()
    finally:
        broker.close()


def changes(theirs, ours):
    """The places where two transcripts differ, as pairs of lines."""
    matcher = difflib.SequenceMatcher(None, theirs, ours, autojunk=False)
    for kind, a, b, c, d in matcher.get_opcodes():
        if kind != "equal":
            yield theirs[a:b], ours[c:d]


def show(whose, found):
    for name, lines in found.items():
        print(f"== {name} ({whose})", *lines, sep="\n")


def report(title, lines):
    if lines:
        print(f"\n## {title}", *lines, sep="\n")
    return bool(lines)
