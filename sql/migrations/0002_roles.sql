-- The two daemons' roles, each granted exactly what it does. Roles belong to the whole cluster, so another database may
-- have made them already; passwords and other ways to log in are the operator's business (pg_hba.conf). Partitions are
-- reached through message_source, so its grants are enough for them.

do $$
begin
	create role minutemail_smtpd login;
exception when duplicate_object or unique_violation then
	null;
end
$$;
-- step
do $$
begin
	create role minutemail_apid login;
exception when duplicate_object or unique_violation then
	null;
end
$$;
-- step
grant usage on schema public to minutemail_smtpd, minutemail_apid;
-- step
-- Which schema it is, so that a daemon can refuse one that it does not know.
grant select on schema_migrations to minutemail_smtpd, minutemail_apid;
-- step
-- smtpd looks recipients up and writes mail; it cannot read a message back. The key columns are what ON CONFLICT DO
-- UPDATE SET id = excluded.id needs, the form in which a batch is sent again.
grant select (bucket, id, address, expires_at) on mailboxes to minutemail_smtpd;
-- step
grant select (id, account_id, name, status) on domains to minutemail_smtpd;
-- step
grant insert, select (bucket, id), update (id) on messages to minutemail_smtpd;
-- step
grant insert, select (bucket, id, chunk, expiry_hour), update (id) on message_source to minutemail_smtpd;
-- step
-- apid works on mail data and reads who may; people, keys and domains are changed by the operator's tool.
grant select, insert, update, delete on mailboxes, account_mailboxes, messages, message_source to minutemail_apid;
-- step
grant select on plans, accounts, domains, api_keys, api_key_domains to minutemail_apid;
-- step
grant select (id, account_id, email, role, state, created_at) on users to minutemail_apid;
-- step
grant update (last_used_at) on api_keys to minutemail_apid;
