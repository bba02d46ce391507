-- By which ciphers payloads of records may be stored: a name is added with the first
-- payload of it, and goes once none is left. So a start knows without reading them whether
-- it can. `scan` is set while it is looked whether any is left; a payload that is stored
-- takes it away.
CREATE TABLE payload_ciphers (
    name TEXT NOT NULL PRIMARY KEY,
    scan INTEGER
) STRICT, WITHOUT ROWID;

-- A payload begins with its cipher's name, and that with its length.
INSERT INTO payload_ciphers (name)
    SELECT 'A256GCM' WHERE EXISTS (
        SELECT 1 FROM journal WHERE substr(sealed, 1, 8) = CAST(x'07' || 'A256GCM' AS BLOB)
    );
INSERT INTO payload_ciphers (name)
    SELECT 'ChaCha20-Poly1305' WHERE EXISTS (
        SELECT 1 FROM journal
        WHERE substr(sealed, 1, 18) = CAST(x'11' || 'ChaCha20-Poly1305' AS BLOB)
    );
