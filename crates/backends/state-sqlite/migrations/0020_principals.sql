-- Who was revoked, for ever: one row, however many delegations hang from it.
CREATE TABLE expulsions (
    org       TEXT NOT NULL,
    principal TEXT NOT NULL,
    at        TEXT NOT NULL,
    PRIMARY KEY (org, principal),
    FOREIGN KEY (org, principal) REFERENCES principals (org, name)
) STRICT, WITHOUT ROWID;
