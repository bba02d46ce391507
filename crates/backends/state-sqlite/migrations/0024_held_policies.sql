-- What each policy that holds an action back says: digests by policy id, as JSON.
-- An approval from before names none and opens nothing.
ALTER TABLE oversight_requests ADD COLUMN policy_digests TEXT NOT NULL DEFAULT '{}';
