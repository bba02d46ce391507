-- The search index held what leaves say in clear. It holds tags of it from now on, and is
-- made again from the journal, from the first leaf on.
DROP TABLE search;
DELETE FROM search_covered;

-- `tag` is of the field and of what the leaf says of it (docs/formats/log.md, "What is
-- searched"), `leaf` the leaf's place in its log.
CREATE TABLE search (
    log   INTEGER NOT NULL,
    field INTEGER NOT NULL,
    tag   BLOB    NOT NULL CHECK (length(tag) = 16),
    leaf  INTEGER NOT NULL,
    PRIMARY KEY (log, field, tag, leaf)
) STRICT, WITHOUT ROWID;
