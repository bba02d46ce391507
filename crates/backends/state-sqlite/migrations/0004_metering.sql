-- Reservations, the events they become, and invoices over events. Amounts are
-- decimal text in `currency`. Instants are RFC 3339 text in UTC with nine
-- fractional digits, so that they sort as text. `hops` is a JSON array of link
-- ids, root first.

CREATE TABLE reservations (
    org         TEXT    NOT NULL,
    action_id   TEXT    NOT NULL,
    agent       TEXT    NOT NULL,
    customer    TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    units       INTEGER NOT NULL CHECK (units >= 0),
    unit_price  TEXT    NOT NULL,
    cost        TEXT    NOT NULL,
    currency    TEXT    NOT NULL,
    hops        TEXT    NOT NULL,
    reserved_at TEXT    NOT NULL,
    expires_at  TEXT    NOT NULL,
    state       TEXT    NOT NULL CHECK (state IN ('open', 'settled', 'released')),
    PRIMARY KEY (org, action_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX reservations_open ON reservations (org, action_id) WHERE state = 'open';

-- One row per settled action. `leaf` is its evidence in the organization's log.
CREATE TABLE ledger (
    event_id    TEXT    NOT NULL PRIMARY KEY,
    org         TEXT    NOT NULL,
    action_id   TEXT    NOT NULL,
    agent       TEXT    NOT NULL,
    customer    TEXT    NOT NULL,
    action      TEXT    NOT NULL,
    units       INTEGER NOT NULL CHECK (units >= 0),
    unit_price  TEXT    NOT NULL,
    cost        TEXT    NOT NULL,
    currency    TEXT    NOT NULL,
    hops        TEXT    NOT NULL,
    reserved_at TEXT    NOT NULL,
    settled_at  TEXT    NOT NULL,
    leaf        INTEGER NOT NULL,
    invoice     TEXT,
    UNIQUE (org, action_id)
) STRICT, WITHOUT ROWID;

CREATE INDEX ledger_by_event ON ledger (org, event_id);
CREATE INDEX ledger_unbilled ON ledger (org, customer, event_id) WHERE invoice IS NULL;

-- `body` is the invoice as JSON; see docs/formats/ledger.md. Rows never change.
CREATE TABLE invoices (
    org    TEXT    NOT NULL,
    id     TEXT    NOT NULL,
    number INTEGER NOT NULL CHECK (number >= 1),
    body   TEXT    NOT NULL,
    PRIMARY KEY (org, id),
    UNIQUE (org, number)
) STRICT, WITHOUT ROWID;
