-- Identities. Rows are added; a delegation is revoked once; nothing else changes.
-- Instants are RFC 3339 text; keys and links are the JSON that
-- docs/formats/keys-and-tokens.md and docs/formats/delegation.md describe.

CREATE TABLE organizations (
    id         TEXT NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL,
    created_at TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- `private` is the wrapped private key: of no use without the root key.
CREATE TABLE organization_keys (
    org     TEXT NOT NULL REFERENCES organizations (id),
    purpose TEXT NOT NULL,
    public  TEXT NOT NULL,
    private TEXT NOT NULL,
    PRIMARY KEY (org, purpose)
) STRICT, WITHOUT ROWID;

CREATE TABLE principals (
    org        TEXT NOT NULL REFERENCES organizations (id),
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL CHECK (kind IN ('human', 'agent')),
    spiffe_id  TEXT NOT NULL,
    created_at TEXT NOT NULL,
    public     TEXT NOT NULL,
    private    TEXT NOT NULL,
    PRIMARY KEY (org, name)
) STRICT, WITHOUT ROWID;

-- In the order in which they were granted, so that a parent precedes its
-- children. `signed` is the whole truth; the other columns are found by.
CREATE TABLE delegations (
    position   INTEGER NOT NULL PRIMARY KEY,
    org        TEXT NOT NULL,
    id         TEXT NOT NULL UNIQUE,
    delegator  TEXT NOT NULL,
    delegatee  TEXT NOT NULL,
    parent     TEXT REFERENCES delegations (id),
    signed     TEXT NOT NULL,
    revoked_at TEXT,
    FOREIGN KEY (org, delegator) REFERENCES principals (org, name),
    FOREIGN KEY (org, delegatee) REFERENCES principals (org, name)
) STRICT;
