-- Actions that wait, or waited, for a human. Instants are RFC 3339 text; money is
-- `AMOUNT CURRENCY`; `args` and `chain` are JSON. Whether a grant is used is not
-- stored here: its text is then a row of `claims`.
CREATE TABLE oversight_requests (
    org              TEXT    NOT NULL,
    id               TEXT    NOT NULL,
    action_id        TEXT    NOT NULL,
    agent            TEXT    NOT NULL,
    action           TEXT    NOT NULL,
    resource         TEXT    NOT NULL,
    args             TEXT    NOT NULL,
    units            INTEGER NOT NULL,
    policy_id        TEXT    NOT NULL,
    digest           TEXT    NOT NULL,
    link             TEXT,
    chain            TEXT    NOT NULL,
    cost             TEXT,
    spent            TEXT,
    oversight        TEXT    NOT NULL,
    created_at       TEXT    NOT NULL,
    expires_at       TEXT    NOT NULL,
    -- `expires_at` in nanoseconds since the Unix epoch, to compare by.
    expires_ns       INTEGER NOT NULL,
    state            TEXT    NOT NULL
        CHECK (state IN ('pending', 'approved', 'denied', 'expired')),
    decided_by       TEXT,
    decided_at       TEXT,
    reason           TEXT,
    grant_token      TEXT,
    grant_expires_at TEXT,
    leaf             INTEGER,
    PRIMARY KEY (org, id),
    CHECK ((state = 'approved') = (grant_token IS NOT NULL)),
    CHECK ((state = 'approved') = (grant_expires_at IS NOT NULL)),
    CHECK ((state IN ('approved', 'denied')) = (decided_by IS NOT NULL)),
    CHECK ((state = 'pending') = (decided_at IS NULL))
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX oversight_by_grant ON oversight_requests (org, grant_token)
    WHERE grant_token IS NOT NULL;

CREATE INDEX oversight_pending ON oversight_requests (org, agent, digest)
    WHERE state = 'pending';

CREATE INDEX oversight_due ON oversight_requests (expires_ns, id) WHERE state = 'pending';
