-- Keys that signed checkpoints of a log alone, and sign them besides until they are retired.
CREATE TABLE former_log_keys (
    org         TEXT NOT NULL REFERENCES organizations (id),
    purpose     TEXT NOT NULL,
    public      TEXT NOT NULL,
    private     TEXT NOT NULL,
    replaced_at TEXT NOT NULL,
    PRIMARY KEY (org, purpose)
) STRICT, WITHOUT ROWID;
