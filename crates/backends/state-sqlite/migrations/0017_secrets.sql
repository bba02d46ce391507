-- What principals entrust to agents below them, sealed under the wrapping keys of the
-- organization (docs/formats/keys-and-tokens.md). The highest version is read.
CREATE TABLE secrets (
    org     TEXT NOT NULL REFERENCES organizations (id),
    name    TEXT NOT NULL,
    version INTEGER NOT NULL CHECK (version > 0),
    put_by  TEXT NOT NULL,
    put_at  TEXT NOT NULL,
    sealed  TEXT NOT NULL,
    PRIMARY KEY (org, name, version),
    FOREIGN KEY (org, put_by) REFERENCES principals (org, name)
) STRICT, WITHOUT ROWID;

-- Who may read which, by which delegation, until when. `ended_at` is set once.
CREATE TABLE secret_leases (
    org        TEXT NOT NULL REFERENCES organizations (id),
    id         TEXT NOT NULL,
    secret     TEXT NOT NULL,
    link       TEXT NOT NULL,
    agent      TEXT NOT NULL,
    given_at   TEXT NOT NULL,
    expires_at TEXT NOT NULL,
    ended_at   TEXT,
    PRIMARY KEY (org, id),
    FOREIGN KEY (org, agent) REFERENCES principals (org, name)
) STRICT, WITHOUT ROWID;

CREATE INDEX secret_leases_link ON secret_leases (org, link);
