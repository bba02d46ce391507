-- How far timestamps may have been handed out: one row, in milliseconds since
-- the Unix epoch. It only rises.
CREATE TABLE timestamp_bound (
    id       INTEGER PRIMARY KEY CHECK (id = 1),
    bound_ms INTEGER NOT NULL CHECK (bound_ms >= 0)
) STRICT;
