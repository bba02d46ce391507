-- What becomes durable together with every change. Instants are RFC 3339 text.

-- The log of each organization, in order. `bytes` is the leaf: the canonical
-- JSON that docs/formats/log.md describes.
CREATE TABLE journal (
    org       TEXT    NOT NULL,
    leaf      INTEGER NOT NULL,
    class     TEXT    NOT NULL CHECK (class IN ('evidence', 'trace')),
    kind      TEXT    NOT NULL,
    at        TEXT    NOT NULL,
    actor     TEXT    NOT NULL,
    action_id TEXT,
    bytes     BLOB    NOT NULL,
    PRIMARY KEY (org, leaf)
) STRICT, WITHOUT ROWID;

CREATE INDEX journal_by_action ON journal (org, action_id, leaf) WHERE action_id IS NOT NULL;

-- The reply that each Idempotency-Key stands for. `leaves` is a JSON array.
CREATE TABLE replies (
    org            TEXT NOT NULL,
    caller         TEXT NOT NULL,
    key            TEXT NOT NULL,
    request_digest BLOB NOT NULL,
    response       TEXT NOT NULL,
    leaves         TEXT NOT NULL,
    PRIMARY KEY (org, caller, key)
) STRICT, WITHOUT ROWID;

-- Single-use tokens that were used up.
CREATE TABLE claims (
    org   TEXT NOT NULL,
    token TEXT NOT NULL,
    PRIMARY KEY (org, token)
) STRICT, WITHOUT ROWID;
