-- A notification by its id alone, whatever its tenant, is found by its deliveries. Only one that has none needs an
-- index, and so each delivery an entry less.
CREATE INDEX notifications_unmatched_by_id ON notifications (id) WHERE fan_out = 0;
DROP INDEX notifications_by_id;
