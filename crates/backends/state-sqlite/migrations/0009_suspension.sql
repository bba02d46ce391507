-- Who is suspended. A row is added when a principal is suspended and removed when
-- it is resumed; that it was, and why, is in the log.
CREATE TABLE suspensions (
    org       TEXT NOT NULL,
    principal TEXT NOT NULL,
    since     TEXT NOT NULL,
    PRIMARY KEY (org, principal),
    FOREIGN KEY (org, principal) REFERENCES principals (org, name)
) STRICT, WITHOUT ROWID;

-- The human who founded the organization, who alone is never suspended. Until now
-- an organization had one human.
ALTER TABLE organizations ADD COLUMN owner TEXT;

UPDATE organizations SET owner = (
    SELECT name FROM principals
    WHERE principals.org = organizations.id AND principals.kind = 'human'
    ORDER BY created_at, name
    LIMIT 1
);
