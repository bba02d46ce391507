"""release-bot: drafts a changelog from a git history and publishes a release.

It runs inside a Creto sandbox with the history mounted at /history and nothing
else to read. Each command prints one JSON object.
"""

import argparse
import collections
import errno
import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import creto

HISTORY = "/history"
REPOSITORY = "repo:creto"


def git(*words):
    """Runs git on the mounted history and returns its output."""
    command = ["git", "-c", "safe.directory=*", "-C", HISTORY, *words]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def read_history():
    """The commits as (hash, author date, subject), newest first."""
    text = git("log", "--format=%H%x1f%as%x1f%s", "HEAD")
    return [line.split("\x1f") for line in text.splitlines()]


def changelog(commits, heading):
    """Groups the commits by day under a heading."""
    days = collections.OrderedDict()
    for commit, day, subject in commits:
        days.setdefault(day, []).append(f"- {subject} ({commit[:10]})")
    parts = [heading.strip(), ""]
    for day, lines in days.items():
        parts += [f"## {day}", "", *lines, ""]
    return "\n".join(parts)


def web(method, url, body=None):
    """One HTTP request to the outside, as any program would make it."""
    data = None if body is None else body.encode()
    request = urllib.request.Request(url, data=data, method=method)
    try:
        with urllib.request.urlopen(request, timeout=10) as response:
            return {"status": response.status, "body": response.read().decode()}
    except urllib.error.HTTPError as error:
        return {"status": error.code, "body": error.read().decode()}
    except OSError as error:
        return {"status": None, "body": str(error)}


def draft(options):
    """Reads the history, drafts the changelog, delivers it."""
    with creto.Action("history.read", REPOSITORY, {"ref": "HEAD"}) as read:
        commits = read_history()
    heading = web("GET", options.host + "/heading.txt")
    if heading["status"] != 200:
        return {"ok": False, "heading": heading}
    args = {"commits": len(commits), "head": commits[0][0]}
    with creto.Action("changelog.draft", REPOSITORY, args) as drafted:
        text = changelog(commits, heading["body"])
        delivered = web("POST", options.host + "/changelog", text)
    return {
        "ok": delivered["status"] == 201,
        "commits": len(commits),
        "sha256": hashlib.sha256(text.encode()).hexdigest(),
        "read": read.answer,
        "drafted": drafted.answer,
        "delivered": delivered,
    }


def probe(options):
    """Tries the ways out that are closed and reports what each one said."""
    unlisted = web("GET", "http://unlisted.example.test/")
    literal = web("GET", f"http://{options.literal}/")
    hidden_name = "secret-in-a-name.unlisted.example.test"
    try:
        socket.getaddrinfo(hidden_name, 80)
        resolved = True
    except socket.gaierror:
        resolved = False
    datagram = {"error": None}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.settimeout(1.5)
        try:
            udp.connect((options.literal.split(":")[0], 9999))
            udp.send(b"out of band")
            datagram["reply"] = len(udp.recv(512))
        except OSError as error:
            datagram["error"] = str(error)
    refusals = creto.call("GET", "/v1/egress/refusals")
    return {
        "unlisted": unlisted,
        "literal": literal,
        "hidden_name_resolved": resolved,
        "datagram": datagram,
        "refusals": refusals,
    }


def release_args(options):
    """The exact arguments of the release: what the human sees and approves."""
    return {"version": options.version, "head": git("rev-parse", "HEAD").strip()}


def request_publish(options):
    """Asks to publish; a human has to look first."""
    return creto.submit("release.publish", REPOSITORY, release_args(options))


def publish(options):
    """Publishes with the human's grant."""
    request = creto.call("GET", "/v1/oversight/requests/" + options.request)
    state = request.get("state")
    if state != "approved":
        return {"published": False, "state": state, "request": request}
    args = release_args(options)
    try:
        with creto.Action(
            "release.publish", REPOSITORY, args, grant=request["grant"]
        ) as action:
            posted = web("POST", options.host + "/releases", json.dumps(args))
    except creto.Refused as refused:
        return {"published": False, "state": state, "answer": refused.answer}
    return {
        "published": posted["status"] == 201,
        "state": state,
        "answer": action.answer,
        "posted": posted,
    }


def patiently(action, args):
    """Asks for one action, and again later when told to slow down."""
    while True:
        answer = creto.submit(action, REPOSITORY, args)
        if answer.get("outcome") != "rate_limited":
            return answer
        time.sleep(answer["retry_after_ms"] / 1000)


def misuse(options):
    """Tries to stretch a grant: for another version, or once more."""
    request = creto.call("GET", "/v1/oversight/requests/" + options.request)
    args = release_args(options)
    answer = creto.submit("release.publish", REPOSITORY, args, grant=request["grant"])
    return {"state": request["state"], "args": args, "answer": answer}


def outside(options):
    """Asks for the same work on a repository that was not delegated."""
    return creto.submit("changelog.draft", "repo:elsewhere", {"ref": "HEAD"})


def rush(options):
    """Asks as fast as it can, using nothing, until it is told to slow down."""
    allowed = 0
    while allowed < 1000:
        answer = creto.submit("history.read", REPOSITORY, {"ref": "HEAD"})
        if answer.get("outcome") != "allow":
            break
        creto.call("POST", "/v1/actions/" + answer["action_id"] + "/release", {})
        allowed += 1
    return {"allowed": allowed, "stopped": answer}


def connect(options):
    """Fetches the heading twice, as a program that nobody counts would."""
    url = options.host + "/heading.txt"
    return {"first": web("GET", url), "second": web("GET", url)}


def watch(options):
    """Reads the history again and again until it is stopped."""
    allowed = []
    while len(allowed) < 45:
        answer = patiently("history.read", {"ref": "HEAD"})
        if answer.get("outcome") != "allow":
            return {"allowed": allowed, "stopped": answer}
        allowed.append(answer["action_id"])
        creto.call("POST", "/v1/actions/" + answer["action_id"] + "/settle", {"units": 1})
        time.sleep(0.25)
    return {"allowed": allowed, "stopped": None}


def walls(options):
    """Tries what the sandbox does not let it do, and lists what it can see."""
    writes = {}
    for path in ["/", HISTORY, "/release-bot", "/usr", "/etc"]:
        try:
            with open(os.path.join(path, "creto-was-here"), "w", encoding="utf-8"):
                writes[path] = "written"
        except OSError as error:
            writes[path] = errno.errorcode.get(error.errno, str(error.errno))
    return {
        "writes": writes,
        "environment": sorted(os.environ),
        "interfaces": sorted(name for _, name in socket.if_nameindex()),
        "processes": sorted(int(name) for name in os.listdir("/proc") if name.isdigit()),
        "me": creto.call("GET", "/v1/self"),
    }


def hog(options):
    """Takes memory until it is stopped."""
    taken = []
    while True:
        taken.append(b"\xff" * (1 << 20))


def spend(options):
    """Works until the budget is gone and reports the answer that said so."""
    allowed = []
    while True:
        answer = patiently("changelog.draft", {"round": len(allowed)})
        if answer.get("outcome") != "allow":
            return {"allowed": allowed, "stopped": answer}
        path = "/v1/actions/" + answer["action_id"]
        allowed.append(creto.call("POST", path + "/settle", {"units": 1}))


def once(options):
    """One small action."""
    return creto.submit("history.read", REPOSITORY, {"ref": "HEAD"})


COMMANDS = {
    "draft": draft,
    "probe": probe,
    "request-publish": request_publish,
    "publish": publish,
    "misuse": misuse,
    "outside": outside,
    "rush": rush,
    "connect": connect,
    "spend": spend,
    "watch": watch,
    "walls": walls,
    "hog": hog,
    "once": once,
}


def main():
    """Runs one command and prints its result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=sorted(COMMANDS))
    parser.add_argument("--host", help="base address of the release host")
    parser.add_argument("--literal", help="an address to try directly, IP[:port]")
    parser.add_argument("--request", help="id of the oversight request")
    parser.add_argument("--version", default="1.0.0", help="version to release")
    options = parser.parse_args()
    try:
        result = COMMANDS[options.command](options)
    except creto.Refused as refused:
        result = {"ok": False, "refused": refused.answer}
    json.dump(result, sys.stdout)
    sys.stdout.write("\n")


if __name__ == "__main__":
    main()
