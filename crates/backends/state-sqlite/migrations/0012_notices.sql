-- A threshold is notified once a limit, window, amount and percent: a limit that is set
-- to another amount is notified anew. `most` is the amount as text, `5.00 USD` or
-- `500 units`; empty in rows that were written before there was this column.
CREATE TABLE notices (
    org          TEXT    NOT NULL,
    limit_id     TEXT    NOT NULL,
    window_start TEXT    NOT NULL,
    most         TEXT    NOT NULL,
    threshold    INTEGER NOT NULL,
    PRIMARY KEY (org, limit_id, window_start, most, threshold)
) STRICT, WITHOUT ROWID;

INSERT INTO notices (org, limit_id, window_start, most, threshold)
    SELECT org, limit_id, window_start, '', threshold FROM limit_notices;
DROP TABLE limit_notices;
ALTER TABLE notices RENAME TO limit_notices;
