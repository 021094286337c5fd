-- What an endpoint's transform made of a notification when a round began, for the round's other attempts. Encrypted,
-- as it may have credentials in it; NULL where no attempt is made yet, and again when the delivery is finished.
ALTER TABLE deliveries ADD COLUMN kept BLOB;
