-- What leaves say, for searching: made from the journal, behind it, and can be made again.
-- `field` is the number of what the leaf says something about, `leaf` its place in its log.
CREATE TABLE search (
    log   INTEGER NOT NULL,
    field INTEGER NOT NULL,
    value TEXT    NOT NULL,
    leaf  INTEGER NOT NULL,
    PRIMARY KEY (log, field, value, leaf)
) STRICT, WITHOUT ROWID;

-- How many leaves of each log are in it, from the first.
CREATE TABLE search_covered (
    log    INTEGER PRIMARY KEY,
    leaves INTEGER NOT NULL
) STRICT;
