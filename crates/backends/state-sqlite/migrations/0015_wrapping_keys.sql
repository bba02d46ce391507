-- The keys under which the private keys of an organization are wrapped, themselves
-- wrapped under the root key (docs/formats/keys-and-tokens.md). The highest version
-- wraps what is new. An organization of before has none until its first rotation.
CREATE TABLE wrapping_keys (
    org     TEXT NOT NULL REFERENCES organizations (id),
    version INTEGER NOT NULL CHECK (version > 0),
    wrapped TEXT NOT NULL,
    PRIMARY KEY (org, version)
) STRICT, WITHOUT ROWID;

-- Issuer keys that sign no more and whose tokens still hold.
CREATE TABLE former_issuers (
    position    INTEGER NOT NULL PRIMARY KEY,
    org         TEXT NOT NULL REFERENCES organizations (id),
    public      TEXT NOT NULL,
    replaced_at TEXT NOT NULL
) STRICT;
