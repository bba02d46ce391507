-- The keys that principals signed with before. The row of the principal has the present
-- one and the only private half there is, whose wrapping is bound to all of these.
CREATE TABLE former_keys (
    org         TEXT NOT NULL,
    principal   TEXT NOT NULL,
    version     INTEGER NOT NULL CHECK (version > 0),
    public      TEXT NOT NULL,
    replaced_at TEXT NOT NULL,
    PRIMARY KEY (org, principal, version),
    FOREIGN KEY (org, principal) REFERENCES principals (org, name)
) STRICT, WITHOUT ROWID;

-- Keys of principals that were revoked: one row, however much each signed. Links name a
-- key by its version, prekeys by its thumbprint.
CREATE TABLE key_revocations (
    org       TEXT NOT NULL,
    principal TEXT NOT NULL,
    version   INTEGER NOT NULL CHECK (version > 0),
    kid       TEXT NOT NULL,
    at        TEXT NOT NULL,
    PRIMARY KEY (org, principal, version),
    FOREIGN KEY (org, principal) REFERENCES principals (org, name)
) STRICT, WITHOUT ROWID;

-- Which key of its delegator signed a link; links of before are of the first.
ALTER TABLE delegations ADD COLUMN key_version INTEGER NOT NULL DEFAULT 1;
