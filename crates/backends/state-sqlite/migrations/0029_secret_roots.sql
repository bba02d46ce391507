-- The person at the top of the chain in which an agent put a secret, the same in all of its
-- versions. Of what was put before this it is not known: that is the agent's in every chain.
ALTER TABLE secrets ADD COLUMN root TEXT;
