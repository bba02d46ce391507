-- Limits and rates that were set, as the JSON that docs/formats/ledger.md
-- describes. A row is replaced when its limit is set anew, and deleted when it is
-- removed; what happened to it is in the log.
CREATE TABLE limits (
    org  TEXT NOT NULL,
    id   TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (org, id)
) STRICT, WITHOUT ROWID;

CREATE TABLE rates (
    org  TEXT NOT NULL,
    id   TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (org, id)
) STRICT, WITHOUT ROWID;

-- Thresholds that were notified: once a limit, window and threshold, ever.
-- `limit_id` is the id of a limit, or of the delegation link whose budget it is;
-- `window_start` is empty for a total. Rows are added, nothing else.
CREATE TABLE limit_notices (
    org          TEXT    NOT NULL,
    limit_id     TEXT    NOT NULL,
    window_start TEXT    NOT NULL,
    threshold    INTEGER NOT NULL,
    PRIMARY KEY (org, limit_id, window_start, threshold)
) STRICT, WITHOUT ROWID;

-- Whether it was granted, or settled, beyond a limit that lets more pass.
ALTER TABLE reservations ADD COLUMN overage INTEGER NOT NULL DEFAULT 0
    CHECK (overage IN (0, 1));
ALTER TABLE ledger ADD COLUMN overage INTEGER NOT NULL DEFAULT 0 CHECK (overage IN (0, 1));

-- What a limit counts when it is set.
CREATE INDEX ledger_by_decision ON ledger (org, reserved_at);
