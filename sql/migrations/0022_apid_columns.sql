-- Whose a row is and what a mail's octets are is nothing that apid ever changes: it may change the columns that its statements do.

revoke update on mailboxes, account_mailboxes, messages, message_source from minutemail_apid;
-- step
grant update (recoverable, tag, expires_at) on mailboxes to minutemail_apid;
-- step
grant update (recoverable, expires_at, user_id) on account_mailboxes to minutemail_apid;
-- step
grant update (expiry_hour, parts, size, digest) on messages to minutemail_apid;
-- step
grant update (expiry_hour) on message_source to minutemail_apid;
