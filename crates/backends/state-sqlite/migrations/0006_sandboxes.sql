-- Sandboxes. `answer` is the JSON document that callers see.
CREATE TABLE sandboxes (
    org     TEXT    NOT NULL,
    id      TEXT    NOT NULL,
    running INTEGER NOT NULL CHECK (running IN (0, 1)),
    answer  TEXT    NOT NULL,
    leaf    INTEGER,
    PRIMARY KEY (org, id)
) STRICT, WITHOUT ROWID;

CREATE INDEX sandboxes_running ON sandboxes (org, id) WHERE running = 1;
