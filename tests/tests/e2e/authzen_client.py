"""Asks the server at AUTHZEN_URL with a published AuthZEN client, and prints what it
understood. Everything here is that client's own interface."""

import json
import os

from decern import Client, DecernError

URL = os.environ["AUTHZEN_URL"]
CLIENT = Client(URL, token=os.environ["AUTHZEN_TOKEN"], timeout=30.0)
WORKER = {"type": "agent", "id": "worker"}
REPOSITORY = {"type": "Resource", "id": "repo:creto"}


def ask(client, subject, action, resource, context=None):
    try:
        decision = client.evaluate(subject, action, resource, context)
    except DecernError as error:
        return {"status": error.status_code, "code": json.loads(error.body).get("code")}
    return {"allowed": decision.allowed, "context": decision.context}


print(
    json.dumps(
        {
            "read": ask(CLIENT, WORKER, "history.read", REPOSITORY),
            "read_other": ask(
                CLIENT, WORKER, {"name": "history.read"}, {"type": "Resource", "id": "repo:other"}
            ),
            "publish": ask(
                CLIENT, WORKER, {"name": "release.publish", "properties": {"units": 1}}, REPOSITORY
            ),
            "egress": ask(
                CLIENT,
                WORKER,
                "network_egress",
                {"type": "Host", "id": "releases.example.test"},
                {"port": 443, "protocol": "tls"},
            ),
            "anothers": ask(CLIENT, {"type": "agent", "id": "idle"}, "history.read", REPOSITORY),
            "unauthenticated": ask(Client(URL), WORKER, "history.read", REPOSITORY),
            "malformed": ask(CLIENT, WORKER, {"title": "no name"}, REPOSITORY),
        }
    )
)
