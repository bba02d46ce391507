-- Files of policies by the digest of their bundle, whether it was published or taken
-- from the directory: evidence refers to both. Rows are added and never changed.
CREATE TABLE policy_bundles (
    org    TEXT NOT NULL,
    digest TEXT NOT NULL,
    name   TEXT NOT NULL,
    text   TEXT NOT NULL,
    UNIQUE (org, digest, name)
) STRICT;

INSERT OR IGNORE INTO policy_bundles (org, digest, name, text)
    SELECT versions.org, versions.digest, files.name, files.text
    FROM policy_files AS files
    JOIN policy_versions AS versions
        ON versions.org = files.org AND versions.version = files.version;

DROP TABLE policy_files;
