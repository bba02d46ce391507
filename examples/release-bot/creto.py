"""The whole of what an agent needs to know about Creto: one HTTP address.

The sandbox is bound to the agent, so a request to http://creto.internal/ carries
the agent's identity by itself. There is no key to hold, and none to leak.
"""

import json
import urllib.error
import urllib.request

BASE = "http://creto.internal"


class Refused(Exception):
    """Creto answered, and the answer was not Allow."""

    def __init__(self, answer):
        super().__init__(answer.get("reason", {}).get("message", answer["outcome"]))
        self.answer = answer


def call(method, path, body=None, key=None):
    """Makes one call and returns the decoded answer, whatever its status."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(BASE + path, data=data, method=method)
    if data is not None:
        request.add_header("Content-Type", "application/json")
    if key is not None:
        request.add_header("Idempotency-Key", key)
    try:
        with urllib.request.urlopen(request, timeout=60) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        return json.load(error)


def submit(action, resource, args, units=1, grant=None, key=None):
    """Asks for one governed action and returns the decision."""
    body = {"action": action, "resource": resource, "args": args, "units": units}
    if grant is not None:
        body["grant"] = grant
    return call("POST", "/v1/actions", body, key)


class Action:
    """One governed action as a context: decided on entry, settled on exit.

    What was not used is given back: a failure inside releases the reservation.
    """

    def __init__(self, action, resource, args, units=1, grant=None):
        self.request = (action, resource, args, units, grant)
        self.used = units
        self.answer = None

    def __enter__(self):
        self.answer = submit(*self.request)
        if self.answer.get("outcome") != "allow":
            raise Refused(self.answer)
        return self

    def __exit__(self, kind, value, traceback):
        path = "/v1/actions/" + self.answer["action_id"]
        if kind is None:
            settled = call("POST", path + "/settle", {"units": self.used})
        else:
            settled = call("POST", path + "/release", {})
        if "code" in settled:
            raise RuntimeError("cannot settle: " + settled.get("detail", settled["code"]))
        self.answer["settlement"] = settled
        return False
