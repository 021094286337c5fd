-- An id of its owner's choice, by which an endpoint is created or updated.
ALTER TABLE endpoints ADD COLUMN uid TEXT;
CREATE UNIQUE INDEX endpoints_by_uid ON endpoints (tenant, uid) WHERE uid IS NOT NULL AND deleted_at IS NULL;
