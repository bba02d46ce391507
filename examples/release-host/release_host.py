"""The outside world of the demo: a release server and the name server for it.

Listens on loopback only. Writes the two ports to --ports once both are open, what
was posted to files in --store, and every name it was asked for to queries.log, so
that anyone can see which names ever left the sandbox.
"""

import argparse
import http.server
import json
import os
import pathlib
import socketserver
import threading

NAME = "releases.example.test"
HEADING = "# Changelog\n\nEvery change, newest first.\n"


class Releases(http.server.BaseHTTPRequestHandler):
    """Serves the heading, takes changelogs and releases."""

    store = pathlib.Path(".")

    def answer(self, status, text):
        """Sends one short text."""
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; charset=utf-8")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        """The heading, and nothing else."""
        if self.path == "/heading.txt":
            self.answer(200, HEADING)
        else:
            self.answer(404, "no such page\n")

    def do_POST(self):
        """Stores what was posted, whole or not at all."""
        files = {"/changelog": "CHANGELOG.md", "/releases": "releases.jsonl"}
        if self.path not in files:
            self.answer(404, "no such page\n")
            return
        length = int(self.headers.get("Content-Length", "0"))
        if length > 1_000_000:
            self.answer(413, "too large\n")
            return
        body = self.rfile.read(length)
        append = self.path == "/releases"
        with open(self.store / files[self.path], "ab" if append else "wb") as out:
            out.write(body + (b"\n" if append else b""))
            out.flush()
            os.fsync(out.fileno())
        self.answer(201, "stored\n")

    def log_message(self, *words):
        """Quiet: the demo prints its own table."""


class Names(socketserver.BaseRequestHandler):
    """Answers A queries (RFC 1035) for the release host with 127.0.0.1."""

    log = None

    def handle(self):
        """One query, one answer."""
        packet, sock = self.request
        if len(packet) < 17:
            return
        labels, at = [], 12
        while at < len(packet) and packet[at] != 0:
            size = packet[at]
            labels.append(packet[at + 1 : at + 1 + size].decode("ascii", "replace"))
            at += 1 + size
        name = ".".join(labels).lower()
        question = packet[12 : at + 5]
        kind = int.from_bytes(packet[at + 1 : at + 3], "big")
        with open(self.log, "a", encoding="utf-8") as log:
            log.write(f"{name} {kind}\n")
        known = name == NAME
        found = known and kind == 1
        flags = b"\x81\x80" if known else b"\x81\x83"
        counts = b"\x00\x01" + (b"\x00\x01" if found else b"\x00\x00") + b"\x00\x00" * 2
        answer = b""
        if found:
            answer = b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04" + bytes([127, 0, 0, 1])
        sock.sendto(packet[:2] + flags + counts + question + answer, self.client_address)


def main():
    """Opens both servers and serves until stopped."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--store", type=pathlib.Path, required=True)
    parser.add_argument("--ports", type=pathlib.Path, required=True)
    options = parser.parse_args()
    options.store.mkdir(parents=True, exist_ok=True)
    Releases.store = options.store
    Names.log = options.store / "queries.log"
    Names.log.touch()
    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Releases)
    names = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Names)
    threading.Thread(target=names.serve_forever, daemon=True).start()
    ports = {"http": web.server_address[1], "dns": names.server_address[1]}
    partial = options.ports.with_suffix(".partial")
    partial.write_text(json.dumps(ports))
    partial.rename(options.ports)
    web.serve_forever()


if __name__ == "__main__":
    main()
