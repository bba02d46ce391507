-- Public keys by which others agree on a secret with an agent
-- (docs/formats/prekeys.md). `prekey` is the signed key until it ends: one that serves
-- once when it is taken, one of last resort when another takes its place. A row stays, so
-- that no id is ever used again. `published_ns` is nanoseconds since 1970, for order.
CREATE TABLE prekeys (
    org          TEXT NOT NULL REFERENCES organizations (id),
    id           TEXT NOT NULL,
    owner        TEXT NOT NULL,
    kind         TEXT NOT NULL CHECK (kind IN ('one_time', 'last_resort')),
    algorithm    TEXT NOT NULL,
    kid          TEXT NOT NULL,
    published_ns INTEGER NOT NULL,
    prekey       TEXT,
    ended_at     TEXT,
    taken_by     TEXT,
    PRIMARY KEY (org, id),
    FOREIGN KEY (org, owner) REFERENCES principals (org, name),
    CHECK ((prekey IS NULL) = (ended_at IS NOT NULL))
) STRICT, WITHOUT ROWID;

CREATE INDEX prekeys_available ON prekeys (org, owner, kind, published_ns, id)
    WHERE ended_at IS NULL;

-- At most one of last resort.
CREATE UNIQUE INDEX prekeys_last_resort ON prekeys (org, owner)
    WHERE ended_at IS NULL AND kind = 'last_resort';
