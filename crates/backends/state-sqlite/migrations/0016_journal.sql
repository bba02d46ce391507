-- The journal in the order in which it is written, so that an append goes to the end of
-- the file's tree: `place` is the number of the log, times 2^40, plus the leaf. What is in
-- `bytes` and asked for nowhere else is no longer kept beside it.
CREATE TABLE logs (
    number INTEGER PRIMARY KEY CHECK (number BETWEEN 1 AND 8388607),
    org    TEXT    NOT NULL UNIQUE
) STRICT;

DROP INDEX journal_by_action;
ALTER TABLE journal RENAME TO journal_before;

CREATE TABLE journal (
    place     INTEGER PRIMARY KEY,
    kind      TEXT NOT NULL,
    action_id TEXT,
    ts        INTEGER,
    bytes     BLOB NOT NULL
) STRICT;

INSERT INTO logs (org) SELECT DISTINCT org FROM journal_before ORDER BY org;
INSERT INTO journal (place, kind, action_id, ts, bytes)
    SELECT (logs.number << 40) + before.leaf, before.kind, before.action_id, before.ts, before.bytes
    FROM logs JOIN journal_before AS before ON before.org = logs.org
    ORDER BY logs.number, before.leaf;
DROP TABLE journal_before;

-- The rows of an action are few, and in the order of their places.
CREATE INDEX journal_by_action ON journal (action_id) WHERE action_id IS NOT NULL;

-- Decisions, which candidate policies are asked about, are few among the traces.
CREATE INDEX journal_decisions ON journal (place) WHERE kind = 'action.decided';
