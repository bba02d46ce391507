-- Which lists of algorithms the log of each organization says are in force, as JSON: those
-- that it was founded under, then those of its last record. An organization from before
-- this has none until the next start, which writes a record.
CREATE TABLE algorithms_on_record (
    org   TEXT NOT NULL PRIMARY KEY REFERENCES organizations (id),
    lists TEXT NOT NULL
) STRICT, WITHOUT ROWID;
