-- What a provider's answer says of when it took the message, as it says it; and what a script wrote to its console.
ALTER TABLE deliveries ADD COLUMN provider_message_date TEXT;
ALTER TABLE attempts ADD COLUMN console TEXT;
