-- Published policies. Rows are added and never changed.
CREATE TABLE policy_versions (
    org          TEXT    NOT NULL,
    version      INTEGER NOT NULL CHECK (version > 0),
    digest       TEXT    NOT NULL,
    author       TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    published_at TEXT    NOT NULL,
    restores     INTEGER,
    leaf         INTEGER,
    PRIMARY KEY (org, version)
) STRICT, WITHOUT ROWID;

CREATE TABLE policy_files (
    org     TEXT    NOT NULL,
    version INTEGER NOT NULL,
    name    TEXT    NOT NULL,
    text    TEXT    NOT NULL,
    UNIQUE (org, version, name),
    FOREIGN KEY (org, version) REFERENCES policy_versions (org, version)
) STRICT;

-- What each organization is to be served: a published version, or the configured
-- directory with the digest that was put in force last.
CREATE TABLE policies_served (
    org     TEXT    NOT NULL PRIMARY KEY,
    version INTEGER,
    digest  TEXT,
    CHECK ((version IS NULL) <> (digest IS NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX journal_decisions ON journal (org, leaf) WHERE kind = 'action.decided';
