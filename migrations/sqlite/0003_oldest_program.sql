-- The version of the oldest schema whose programs work with this one. A migration that takes something away raises it.
-- (On Postgres this version also divides the attempts by day.)
INSERT INTO versions (name, value) VALUES ('oldest_program', 1);
