-- Whose records there are. `id` is the pseudonym that leaves name, `person` the name of a
-- principal, and empty for the organization itself. `private` is the wrapped key that the
-- payloads are sealed under. Both are gone once the person was erased; the row stays, so
-- that the pseudonym is never anybody else's. Rows are only added at the end, so that a
-- row stays where it was written, and its key leaves no copy elsewhere in the file.
CREATE TABLE subjects (
    number  INTEGER PRIMARY KEY,
    id      TEXT NOT NULL UNIQUE,
    org     TEXT NOT NULL,
    person  TEXT,
    private TEXT,
    -- The leaf that says that it was erased: nothing else takes the key away.
    erased_by INTEGER,
    CHECK ((person IS NULL) = (private IS NULL)),
    CHECK ((private IS NULL) = (erased_by IS NOT NULL))
) STRICT;

CREATE UNIQUE INDEX subjects_by_person ON subjects (org, person) WHERE person IS NOT NULL;

-- Salt and payload of a leaf that commits to them (docs/formats/log.md). Absent in leaves
-- that are in clear, and where it was kept long enough.
ALTER TABLE journal ADD COLUMN sealed BLOB;

-- The last leaf of each log whose payload was kept long enough, by class. Below `swept`
-- nothing is left of such payloads.
CREATE TABLE expiries (
    org     TEXT    NOT NULL,
    class   TEXT    NOT NULL CHECK (class IN ('evidence', 'trace')),
    through INTEGER NOT NULL,
    swept   INTEGER NOT NULL,
    PRIMARY KEY (org, class)
) STRICT, WITHOUT ROWID;

-- Persons who were erased, by the leaf that says so, until nothing else is kept of them
-- that can go: search terms, and what their requests for a human held.
CREATE TABLE erasures (
    subject TEXT    NOT NULL PRIMARY KEY,
    org     TEXT    NOT NULL,
    person  TEXT    NOT NULL,
    leaf    INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- On which day a reply was kept, counted from 1970: replies have an end.
ALTER TABLE replies ADD COLUMN day INTEGER NOT NULL DEFAULT 0;
UPDATE replies SET day = CAST(strftime('%s', 'now') AS INTEGER) / 86400;
CREATE INDEX replies_by_day ON replies (day);

-- In whose name something was held for a human.
CREATE INDEX oversight_by_root ON oversight_requests (org, json_extract(chain, '$[0]'));
CREATE INDEX oversight_by_decider ON oversight_requests (org, decided_by)
    WHERE decided_by IS NOT NULL;
