-- The entity type of a held action's resource, where it is not Creto::Resource, and
-- its context as JSON.
ALTER TABLE oversight_requests ADD COLUMN resource_type TEXT;
ALTER TABLE oversight_requests ADD COLUMN context TEXT NOT NULL DEFAULT '{}';
