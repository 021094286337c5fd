-- The attempt that finished a delivery, where it was its first: in the row of the delivery, as JSON. All others stay rows
-- of attempts. Its status code stands apart, for lists of deliveries by it.
ALTER TABLE deliveries ADD COLUMN first_attempt TEXT;
ALTER TABLE deliveries ADD COLUMN first_status_code BIGINT;
