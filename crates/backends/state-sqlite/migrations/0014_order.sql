-- How often this file was opened: one row, raised by each opening. Whoever opened it
-- last owns it; what anybody else writes is refused.
CREATE TABLE epoch (
    id     INTEGER PRIMARY KEY CHECK (id = 1),
    number INTEGER NOT NULL CHECK (number > 0)
) STRICT;

-- The timestamp of each leaf, as its number: it rises strictly with the leaf. Absent in
-- leaves that were appended before there was this column; their bytes have none either.
ALTER TABLE journal ADD COLUMN ts INTEGER;
