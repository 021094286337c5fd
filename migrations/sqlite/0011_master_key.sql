-- Which master key encrypts: a text that everybody knows, encrypted with it. A process whose key does not open it would
-- store what the others cannot read.
CREATE TABLE master_key (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    check_value BLOB NOT NULL
);
