-- Whose secrets are that were handed over. The others are whose who put them.
CREATE TABLE secret_owners (
    org   TEXT NOT NULL,
    name  TEXT NOT NULL,
    owner TEXT NOT NULL,
    PRIMARY KEY (org, name),
    FOREIGN KEY (org, owner) REFERENCES principals (org, name)
) STRICT, WITHOUT ROWID;
