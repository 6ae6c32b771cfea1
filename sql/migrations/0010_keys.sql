-- Keys are made and changed in the console. Whose a key is, and when it was made, stays as it is.

grant insert, update (name, hash, last8, environment, scopes, expires_at, revoked_at), delete on api_keys to minutemail_apid;
-- step
grant insert, delete on api_key_domains to minutemail_apid;
