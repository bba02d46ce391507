-- The roles of people. A row is added with a person and altered when the role changes;
-- that it was, and by whom, is in the log. Who founded an organization is its owner and
-- has no row.
CREATE TABLE roles (
    org   TEXT NOT NULL,
    human TEXT NOT NULL,
    role  TEXT NOT NULL,
    since TEXT NOT NULL,
    PRIMARY KEY (org, human),
    FOREIGN KEY (org, human) REFERENCES principals (org, name)
) STRICT, WITHOUT ROWID;
