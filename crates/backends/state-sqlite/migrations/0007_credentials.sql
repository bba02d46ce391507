-- Epochs of people's credentials, in the order in which they began: the last one
-- of a human counts, and a token of an earlier one is refused. Rows are added,
-- nothing else.
CREATE TABLE credential_epochs (
    position INTEGER NOT NULL PRIMARY KEY,
    org      TEXT NOT NULL,
    human    TEXT NOT NULL,
    epoch    TEXT NOT NULL UNIQUE,
    since    TEXT NOT NULL,
    FOREIGN KEY (org, human) REFERENCES principals (org, name)
) STRICT;
